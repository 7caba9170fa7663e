/* The source: its agent, its page server, its QEMU, and the guard. */

/* Vm::roll_back(): migrate_cancel, or `cont` once QEMU has completed; and its answer. */
inline roll_back() {
    if
    :: sq == QUIET || sq == SAVING || sq == COMPLETED -> run_at_source()
    :: else
    fi
}

/* DecisionWord::decide(kAbort) */
inline decide_abort() { if :: word == OPEN -> word = ABORT :: else fi }

/* What ends a wait before COMMIT. */
#define TROUBLE (!up || sq == DEAD || word == ABORT)

/* What was asked for on a connection that broke. */
inline ask_again() {
    if :: stale_fault == READ && fs == NOTHING -> stale_fault = QUEUED :: else fi
}

/* Reconnect: the destination drops the streams that it had, says what is missing, and asks again for
 * the pages that its guest waits for. Nothing is pushed before RESUMED. */
inline reconnect() {
    drop(urgent); drop(data); drop(replies);
    up = true; lasts = 0;
    last_sent = false;
    if
    :: d_state == RESUMED -> s_phase = S_DRAINING; pushing = true; to_push = m
#ifdef HOLE_PUSHES_BEFORE_THE_SUCCESSOR_RESUMED
    :: d_state != RESUMED && s_journal == DRAINING ->
        s_phase = S_COMMITTED_SERVED; pushing = true; to_push = m
#endif
    :: else -> s_phase = S_COMMITTED_SERVED; pushing = false; to_push = false
    fi;
    ask_again()
}

/* Reconnect by a source that was rebooted says that there are no pages: they were on tmpfs. */
#ifdef HOLE_LOST_PAGES_UNTOLD
#define PAGES_LOST false
#else
#define PAGES_LOST (COMMIT_CAME && m && !kept && !pages_gone)
#endif
inline say_pages_gone() { drop(urgent); drop(data); pages_gone = true }

/* A destination that Reconnect may serve with pages. From COMMIT on, not from RESUMED on: its `cont`
 * may be waiting for a page. */
#ifdef HOLE_NO_PAGES_BEFORE_RESUMED
#define COMMIT_CAME (d_state == RESUMED)
#else
#define COMMIT_CAME (d_state == COMMITTED || d_state == RESUMED)
#endif

/* A word that went through a reboot may be older than what was sent. */
#ifdef HOLE_BELIEVES_THE_WORD_AFTER_A_REBOOT
#define MAY_HAVE_COMMITTED (word == COMMIT)
#else
#define MAY_HAVE_COMMITTED (word == COMMIT || s_blackout)
#endif

/* engine/source/handover and source_migration; after a crash, tools/godwitd/recovery. */
proctype SourceAgent() DIES_AS(killed == SOURCE_AGENT || killed == SOURCE_HOST) {
    bool loaded = false;
incarnation:
    {
        s_up = true;
        if
        :: !s_restarted
        :: s_restarted && (s_journal == LIVE || (s_journal == FREEZING && !MAY_HAVE_COMMITTED)) ->
#ifdef BREAK_RESTART_RESUMES_ON_OPEN
            atomic { empty(sq_qmp) -> roll_back() };
            s_journal = ENDED;
            goto over
#endif
            goto give_back
        :: s_restarted && s_journal == FREEZING && MAY_HAVE_COMMITTED -> goto in_doubt
        :: s_restarted && s_journal == DRAINING -> kill_at_source(); goto drain
#ifdef BREAK_SUCCESSOR_ROLLS_BACK_AN_ENDED_ONE
        :: s_restarted && s_journal == ENDED -> atomic { roll_back() }; goto ended
#endif
#ifdef HOLE_ENDED_IS_LEFT_ALONE
        :: s_restarted && s_journal == ENDED -> s_done = true; goto end_done
#else
        :: s_restarted && s_journal == ENDED -> goto ended
#endif
        fi;

#ifdef SWITCH /* while the guest runs */
        if
        :: atomic { s_phase = S_ARMING; send(urgent, BEGIN) };
            if
            :: atomic { replies?READY -> source_hears_postcopy_ready() }
            :: TROUBLE -> goto give_back
#ifdef BREAK_SWITCH_BEFORE_READY
            :: s_phase = S_ARMED
#endif
            fi
        :: true
        fi;
#endif

        /* Freeze. "COMMIT may have been sent" is in the journal first. */
        kept = true;
        s_journal = FREEZING;
        if
        :: atomic { !guard_over -> armed = true }
        :: guard_over -> goto give_back
        fi;
        sq_qmp!MIGRATE;
        if
        :: sq == QUIET
        :: TROUBLE -> goto give_back
        fi;
#ifdef SWITCH
        if
        :: s_phase == S_ARMED
        :: atomic {
#ifndef BREAK_OFF_WITHOUT_THE_PAGES
               send(data, PAGE);
#endif
               send(data, MARKER) };
            if
            :: atomic { replies?ACK -> source_hears_marker_ack() }
            :: TROUBLE -> goto give_back
            fi;
            atomic { if :: s_phase == S_ARMED -> send(urgent, OFF) :: else fi; s_phase = S_SAVING };
            goto save
        fi;
#endif
#ifdef POSTCOPY
        atomic { send(data, PUNCH); send(data, MARKER) };
#ifndef BREAK_LOAD_BEFORE_MARKERS
        if
        :: atomic { replies?ACK -> source_hears_marker_ack() }
        :: TROUBLE -> goto give_back
        fi;
#endif
        atomic { served = true; s_phase = S_SAVING_SERVED; send(urgent, FINAL) };
#else
        s_phase = S_SAVING;
#endif
save:
        sq_qmp!CONTINUE;
        if
        :: sq == SAVING || sq == COMPLETED -> send(urgent, STATE)
        :: sq == RUNNING || TROUBLE -> goto give_back
        fi;
        do
#ifdef BREAK_LOAD_BEFORE_MARKERS
        :: replies?ACK
#endif
        :: atomic { replies?LOADED -> source_hears_loaded(); loaded = true }
#ifdef BREAK_COMMIT_BEFORE_COMPLETED
        :: loaded -> break
#else
        :: loaded && sq == COMPLETED -> break
#endif
        :: sq == RUNNING || TROUBLE -> goto give_back
        od;

        /* COMMIT: the word first, then the frame. */
#ifdef BREAK_COMMIT_WITHOUT_CAS
        if :: word != OPEN -> goto give_back :: word == OPEN fi;
        atomic { word = COMMIT; committed = true };
#else
        if
        :: atomic { word == OPEN -> word = COMMIT; committed = true }
        :: word != OPEN -> goto give_back
        fi;
#endif
        atomic { s_phase = (served -> S_COMMITTED_SERVED : S_COMMITTED); send(urgent, COMMIT) };

in_doubt: /* The answer comes on the urgent stream or to a Query. Asking again and again until the
           * destination knows more is written as waiting until it does. */
end_in_doubt:
        do
        :: atomic { replies?RESUMED -> source_hears_resumed() }; goto resumed
        :: atomic { replies?REFUSED -> source_hears_refused() }; goto give_back
#ifdef BREAK_LOAD_BEFORE_MARKERS
        :: replies?ACK
#endif
        :: d_state == RESUMED && !d_gone -> goto resumed
        :: d_state == RESUMED && d_gone -> kill_at_source(); goto ended
        :: d_state == REFUSED -> goto give_back
#ifndef HOLE_LOST_GUEST_UNTOLD
        :: atomic { d_state == REBOOTED && sq == DEAD -> was_lost = true }; goto ended
#endif
#ifndef HOLE_FORGETS_THAT_IT_WAS_REFUSED
        :: s_restarted && sq == RUNNING -> goto give_back /* the predecessor heard REFUSED */
#endif
#ifdef POSTCOPY
        :: atomic { !up && COMMIT_CAME && d_state != RESUMED && served && serving && kept ->
               reconnect() }
        :: atomic { PAGES_LOST && d_state != RESUMED -> say_pages_gone() }
#endif
#ifdef BREAK_GUESS_IN_DOUBT
        :: !up -> goto give_back
#endif
        od;

resumed:
        kill_at_source();
        if :: !served -> goto ended :: served fi;
#ifdef BREAK_RELEASE_AT_RESUMED
        kept = false;
#endif
        s_journal = DRAINING;
        atomic { if :: up && !pushing -> pushing = true; to_push = true :: else fi };

drain:
end_drain:
        do
        :: atomic { replies?RESUMED -> source_hears_resumed(); /* of a successor, perhaps */
               if :: !pushing -> pushing = true; to_push = m :: else fi }
        :: atomic { replies?DRAINED -> source_hears_drained() }; goto ended
        :: !up && d_state == RESUMED && (d_gone || d_journal == DRAINED) -> goto ended
#ifndef HOLE_LOST_GUEST_UNTOLD
        :: d_state == REBOOTED -> goto ended /* with the guest, which had run there */
#endif
        :: atomic { !up && COMMIT_CAME && d_journal != DRAINED && d_phase != D_DRAINED && serving &&
               kept -> reconnect() }
        :: atomic { PAGES_LOST && d_journal != DRAINED -> say_pages_gone() }
        od;

give_back: /* COMMIT was never sent, or the destination refused. The guest first. */
        atomic { decide_abort() };
        atomic { empty(sq_qmp) -> roll_back() };
        up = false; /* what Abort says, the end of the streams says too */

ended:  /* Nobody may touch the guest any more for this migration's sake. */
        dismissed = true;
        guard_over;
        s_journal = ENDED;
over:
        atomic { kept = false; s_done = true };
end_done:
        false
    } unless { atomic { killed == SOURCE_AGENT || killed == SOURCE_HOST ->
        s_up = false; s_restarted = true;
        pushing = false; to_push = false; last_sent = false; loaded = false;
        if :: up -> up = false; maybe_drop(urgent); maybe_drop(data) :: else fi;
        drop(replies);
        if /* last: from here on the guard is next */
        :: killed == SOURCE_HOST && !guard_over -> killed = GUARD
        :: else -> killed = NOTHING
        fi
    } };
    if :: goto incarnation :: true fi;
end_crashed: /* for good */
    false
}

/* The page server at the source: answers faults at once, pushes all else. It reads the RAM file,
 * which a restarted agent opens by its kept name. */
proctype SourcePageServer() RUNS {
end:
    do
    :: atomic { s_up && up && replies?[ASK] -> replies?ASK; source_hears_page_request();
           /* Behind the last marker it is under way, or there. */
           if :: !last_sent -> send(urgent, PAGE) :: else fi }
    :: atomic { up && to_push -> to_push = false; send(data, PAGE) }
    :: atomic { up && pushing && !to_push && !last_sent -> last_sent = true;
           send(data, LAST); send(urgent, LAST) }
    od
}

/* QEMU's part: pre-switchover is the quiet point; a save that fails lets the guest run again by
 * itself, until it has completed. */
proctype SourceQemu() RUNS {
end:
    do
    :: atomic { sq_qmp?MIGRATE -> if :: sq == RUNNING -> sq = QUIET :: else fi }
    :: atomic { sq_qmp?CONTINUE -> if :: sq == QUIET -> sq = SAVING :: else fi }
    :: atomic { sq == SAVING -> sq = COMPLETED }
    :: atomic { sq == SAVING -> run_at_source() }
    od
}

/* engine/handover/guard_loop. What the dead agent had written to QEMU may be carried out after the
 * first rescue: the second comes when that is over. */
inline rescue() {
    atomic { touch_by_guard(); roll_back() };
#ifndef BREAK_GUARD_RESCUES_ONCE
    atomic { empty(sq_qmp) -> touch_by_guard(); roll_back() }
#endif
}

proctype Guard() DIES_AS(killed == GUARD) {
    bool passed = false;
    {
        true;
end_watching:
        do
        :: dismissed || (s_restarted && !armed) -> break
        :: atomic { s_restarted && armed -> decide_abort() };
            if
            :: word == ABORT -> rescue()
#ifdef BREAK_GUARD_IGNORES_COMMIT
            :: word == COMMIT -> rescue()
#else
            :: word == COMMIT
#endif
            fi;
            break
        :: atomic { armed && !passed && word != COMMIT -> /* the freeze deadline, once */
               passed = true; word = ABORT };
            rescue()
        od;
        guard_over = true
    } unless { atomic { killed == GUARD ->
        killed = NOTHING;
        guard_over = true; guard_died = true
    } }
}
