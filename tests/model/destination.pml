/* The destination: its agent and its QEMU. */

/* It lives in QEMU's own descriptor table. What the dead agent had read comes again only when it is
 * woken. */
inline take_userfaultfd() {
    registered = true; serving = true;
#ifndef BREAK_NO_WAKE
    wake_all()
#endif
}

/* engine/destination/incoming_migration; after a crash, tools/godwitd/incoming_registry. */
proctype DestinationAgent() DIES_AS(killed == DESTINATION_AGENT) {
    bool told = false;
incarnation:
    {
        d_up = true;
        if
        :: d_state == WAITING
#ifndef HOLE_REFUSES_AFTER_A_REBOOT
        :: d_state == DOWN && d_journal == LIVE && d_blackout -> d_state = REBOOTED; goto rebooted
        :: d_state == DOWN && d_journal == LIVE && !d_blackout -> goto refuse
#else
        :: d_state == DOWN && d_journal == LIVE -> goto refuse
#endif
        :: d_state == DOWN && d_journal == REFUSED -> d_state = REFUSED; goto refused
        :: d_state == DOWN && d_journal == DRAINED -> d_state = RESUMED; goto drained
        :: d_state == DOWN && (d_journal == CONT || d_journal == DRAINING) && dq == DEAD -> goto gone
#ifdef HOLE_CONT_BEFORE_SERVING
        :: atomic { d_state == DOWN && d_journal == CONT && dq != DEAD ->
               d_phase = (served -> D_COMMITTED_SERVING : D_COMMITTED); d_state = COMMITTED };
            goto resume
#else
        :: atomic { d_state == DOWN && d_journal == CONT && dq != DEAD ->
               if
               :: served -> take_userfaultfd(); d_phase = D_COMMITTED_SERVING
               :: else -> d_phase = D_COMMITTED
               fi;
               d_state = COMMITTED }; goto resume
#endif
        :: atomic { d_state == DOWN && d_journal == DRAINING && dq != DEAD ->
               take_userfaultfd(); d_phase = D_DRAINING; d_state = RESUMED }; goto drain
        fi;

end_waiting: /* A source that is down may be there still, with streams that look well. */
        do
#ifdef SWITCH
        :: atomic { urgent?BEGIN -> destination_hears_urgent_postcopy_begin() };
            atomic { registered = true; serving = true; d_phase = D_ARMED; send(replies, READY) }
        :: atomic { urgent?OFF -> destination_hears_urgent_postcopy_off();
               registered = false; serving = false; taken_back = true; wake_all() }
#endif
#ifdef POSTCOPY
        :: atomic { urgent?FINAL -> destination_hears_urgent_postcopy_final() }
#endif
        :: atomic { urgent?STATE -> destination_hears_urgent_device_state(); state_came = true }
        :: atomic { dq == LOADED && !told -> told = true; send(replies, LOADED) }
        :: atomic { urgent?COMMIT -> destination_hears_urgent_commit() }; break
        :: !up || dq == DEAD -> goto refuse
        od;

        d_state = COMMITTED;
        d_journal = CONT;
        if :: dq == DEAD -> goto refuse_commit :: dq != DEAD fi; /* `cont` was never written */

resume: /* Until QEMU says; a restarted agent does not know what its predecessor's `cont` did. */
        if :: dq_qmp!CONT :: dq == DEAD -> goto gone fi;
end_resume:
        if
        :: atomic { cont_answer == RESUMED -> cont_answer = NOTHING }
        :: atomic { cont_answer == REFUSED -> cont_answer = NOTHING };
            if :: d_restarted -> goto resume :: !d_restarted -> goto refuse_commit fi
        :: dq == DEAD -> goto gone
        :: pages_gone && m -> end_at_destination(); goto gone
        fi;
        atomic { d_state = RESUMED; d_phase = (served -> D_DRAINING : D_RESUMED);
            send(replies, RESUMED) };
        if
        :: !served -> d_journal = DRAINED; goto drained
        :: served -> d_journal = DRAINING
        fi;
#ifdef HOLE_CONT_BEFORE_SERVING
        atomic { if :: !serving -> take_userfaultfd() :: else fi };
#endif

drain:
end_drain:
        do
        :: atomic { !m && lasts == 2 -> d_phase = D_DRAINED; break }
#ifndef HOLE_WAITS_FOR_A_SOURCE_IT_DOES_NOT_NEED
        :: atomic { !m && !up -> d_phase = D_DRAINED; break }
#endif
        :: dq == DEAD -> goto gone
        :: pages_gone && m -> end_at_destination(); goto gone
        od;
#ifdef HOLE_DRAINED_BEFORE_UNREGISTER
        d_journal = DRAINED;
        atomic { registered = false; serving = false; wake_all() };
#else
        atomic { registered = false; serving = false; wake_all() };
        d_journal = DRAINED;
#endif
        send(replies, DRAINED);
drained:
end_drained:
        false;

gone:   /* COMMIT came, QEMU ended since: the source's copy is never run. */
        atomic { d_journal = DRAINED; d_gone = true; was_gone = true };
        d_state = RESUMED;
#ifndef HOLE_GONE_UNTOLD
        atomic { up = false; d_phase = D_DRAINED }; /* so that the source asks */
#endif
end_gone:
        false;

rebooted: /* QEMU is gone, and with the journal's last words whether the guest ran: no answer to a
           * source that may let it run. */
end_rebooted:
        false;

refuse_commit: /* A successor must neither resume what was refused nor take it for a crash. */
#ifdef BREAK_REFUSED_BEFORE_JOURNAL
        kill_at_destination();
        d_state = REFUSED;
        send(replies, REFUSED);
        atomic { d_journal = REFUSED; has_refused = true };
        goto refused;
#endif
#ifndef HOLE_KILL_BEFORE_JOURNAL
        d_journal = LIVE;
#endif
refuse:
        kill_at_destination();
        atomic { d_journal = REFUSED; has_refused = true };
        d_state = REFUSED;
        send(replies, REFUSED);
refused:
        atomic { up = false; d_phase = D_REFUSED };
end_refused:
        false
    } unless { atomic { killed == DESTINATION_AGENT ->
        killed = NOTHING;
        d_up = false; d_state = DOWN; d_restarted = true; told = false;
        serving = false; lasts = 0; rs = NOTHING; fs = NOTHING; cont_answer = NOTHING;
        pages_gone = false;
        if :: up -> up = false; maybe_drop(replies) :: else fi;
        drop(urgent); drop(data)
    } };
    if :: goto incarnation :: true fi;
end_crashed: /* for good */
    false
}

/* QEMU with -S. It touches memory while it starts, while it loads, within `cont`; then the guest
 * does. While it waits for a page it answers nothing. */
proctype DestinationQemu() RUNS {
    {
#ifdef EARLY_FAULTS
        if :: TOUCH_STALE(end_start) :: true fi;
#else
        true;
#endif
end_starting:
        state_came;
#ifdef POSTCOPY
        if :: TOUCH_STALE(end_load); read_stale() :: true fi;
#endif
        dq = LOADED;
#ifdef BREAK_NO_DASH_S
        run_at_destination();
#endif
end_loaded:
        do
        :: atomic { dq_qmp?CONT -> if
               :: dq == LOADED && refusals > 0 -> refusals--; cont_answer = REFUSED
               :: dq == RUNNING -> cont_answer = RESUMED
               :: dq == LOADED -> goto cont
               fi }
#ifdef POSTCOPY
        :: dq == RUNNING && !stale_read -> TOUCH_STALE(end_guest); atomic { read_stale(); write_stale() }
        :: dq == RUNNING && !hole_read -> TOUCH_HOLE(end_guest_too); hole_read = true
#endif
        od;
cont:
#ifdef POSTCOPY
        if :: TOUCH_STALE(end_cont); read_stale() :: true fi;
#endif
        atomic { run_at_destination(); cont_answer = RESUMED };
        goto end_loaded
    } unless { dq == DEAD }
}
