/* Everything that can go wrong, who watches, and who judges the end. */

#ifdef POSTCOPY
#define VISITED (stale_read && hole_read && !registered) /* the guest waits for no page */
#else
#define VISITED true
#endif

/* Ends that a search for them must reach: the checks say something of runs that get so far. */
#ifdef SEEK_DOUBT_FOR_GOOD /* COMMIT was sent, and the destination never comes back */
#define SOUGHT (s_up && !d_up && s_journal == FREEZING && committed && sq == COMPLETED)
#endif
#ifdef SEEK_BACK_AFTER_COMMIT
#define SOUGHT (committed && sq == RUNNING && s_journal == ENDED && dq_died == false)
#endif
#ifdef SEEK_RESCUE_WITHOUT_AN_AGENT
#define SOUGHT (!s_up && armed && sq == RUNNING && s_journal == FREEZING)
#endif
#ifdef SEEK_DRAIN_THAT_BOTH_AGENTS_DIED_IN
#define SOUGHT (s_restarted && d_restarted && s_journal == ENDED && d_journal == DRAINED && VISITED)
#endif
#ifdef SEEK_GUEST_CRASH
#define SOUGHT (d_gone && s_journal == ENDED)
#endif
#ifdef SEEK_AN_OPERATOR /* both agents are back, and nobody can tell */
#define SOUGHT (s_up && d_up && NEEDS_AN_OPERATOR)
#endif
#ifdef SEEK_A_SWITCH
#define SOUGHT (served && s_journal == ENDED && d_journal == DRAINED && VISITED)
#endif
#ifdef SEEK_A_SWITCH_TAKEN_BACK
#define SOUGHT (taken_back && dq == RUNNING && s_journal == ENDED && VISITED)
#endif
#ifdef SEEK_ANOTHER_MIGRATION_AFTER_A_RESCUE
#define SOUGHT (others && !ran_here && s_restarted)
#endif
#ifndef SOUGHT
#define SOUGHT false
#endif

/* Nothing that fails from here on could change anything. */
#define ALL_WRITTEN (s_done && (d_journal == DRAINED || d_journal == REFUSED))

proctype World() RUNS {
end:
    do
    :: atomic { crashes > 0 && s_up && (!s_done || others) ->
           crashes--; killed = SOURCE_AGENT }
    :: atomic { crashes > 0 && d_up && !ALL_WRITTEN ->
           crashes--; killed = DESTINATION_AGENT }
    :: atomic { crashes > 0 && !guard_over && word != COMMIT -> crashes--; killed = GUARD }
    :: atomic { crashes > 0 && sq != DEAD && !s_done -> crashes--; sq = DEAD; sq_died = true }
    :: atomic { crashes > 0 && dq != DEAD && !s_done ->
           crashes--; dq = DEAD; dq_died = true; wake_all() }
    :: atomic { cuts > 0 && up && !s_done -> cuts--; up = false;
           maybe_drop(urgent); maybe_drop(data); maybe_drop(replies) }
    :: atomic { blackouts > 0 && !s_done -> /* Not synced, may be older: all after FREEZING. */
           blackouts--; s_blackout = true; sq = DEAD; sq_died = true; kept = false;
           if :: word = OPEN :: true fi;
           if :: s_journal == DRAINING || s_journal == ENDED -> s_journal = FREEZING :: true fi;
           if :: s_up -> killed = SOURCE_HOST :: !s_up && !guard_over -> killed = GUARD :: else fi }
    :: atomic { blackouts > 0 && !ALL_WRITTEN -> /* All after LIVE. */
           blackouts--; d_blackout = true; dq_died = (dq_died || dq != DEAD); dq = DEAD; wake_all();
           if :: d_journal = LIVE; d_gone = false :: true fi;
           if :: d_up -> killed = DESTINATION_AGENT :: else fi }
    :: atomic { s_up && !s_restarted && word == OPEN -> word = ABORT } /* a cancel, or a limit */
    od
}

#ifdef OTHERS
/* The guest is free for the next migration where it runs, and ends up at a third host. What still has
 * to do with this one must not touch it. */
proctype Others() RUNS {
end:
    do
    :: atomic { s_done && sq == RUNNING -> others = true; sq = QUIET }; /* its freeze */
        sq = DEAD
    :: atomic { d_up && d_journal == DRAINED && !d_gone && dq == RUNNING && VISITED ->
           others = true; dq = DEAD }
    od
}
#endif

/* Looks at every state. */
proctype Watch() RUNS {
end:
    do
    :: atomic { sq == RUNNING && dq == RUNNING -> violated(two_guests_run) }
    :: atomic { sq == DEAD && !kept && !DESTINATION_COMPLETE && !GUEST_DEAD && !others ->
           violated(no_complete_copy) }
    :: atomic { d_gone && !dq_died && !s_blackout -> violated(guest_declared_dead) }
    od
}

/* COMMIT may have been sent, and the destination's disk no longer says what became of it. */
#define NEEDS_AN_OPERATOR \
    (d_state == REBOOTED && s_journal == FREEZING && (committed || s_blackout))

/* When nothing can happen any more. An agent that is down by now never comes back. */
proctype Judge() {
    timeout;
    atomic {
        if
        :: !committed -> /* Whatever failed, unless agent and guard are both gone for good. */
            check(sq == RUNNING || sq_died || others || (!s_up && guard_died), guest_left_paused)
        :: else
        fi;
        check(kept || s_journal == ENDED || s_blackout || (!s_up && s_journal == LIVE),
              no_complete_copy);
        if
        :: s_up && d_up && NEEDS_AN_OPERATOR ->
            check((kept || s_blackout) && sq != RUNNING, no_complete_copy)
        :: s_up && d_up && !NEEDS_AN_OPERATOR ->
            check(s_journal == ENDED, stuck); /* No doubt is left. */
            check(!kept && guard_over, left_behind);
            check(sq == RUNNING || sq == DEAD, left_behind);
            check(dq == RUNNING || dq == DEAD, left_behind);
            check(dq == DEAD || d_journal == DRAINED, stuck);
            check(sq == RUNNING || (dq == RUNNING && d_journal == DRAINED) || GUEST_DEAD || others,
                  guest_lost)
        :: else
        fi;
        if
        :: dq == RUNNING && d_up && !m -> /* It needs no source. */
            check(VISITED && d_journal == DRAINED, stuck)
        :: else
        fi;
        check(!(SOUGHT), reached)
    }
}

init {
    atomic {
#ifdef EARLY_FAULTS
        if :: stale = OLD :: stale = ABSENT fi; /* sent once, or never */
#endif
        run SourceAgent(); run SourceQemu(); run Guard();
        run DestinationAgent(); run DestinationQemu();
#ifdef POSTCOPY
        run SourcePageServer(); run Receiver(); run FaultServer();
#endif
#ifdef OTHERS
        run Others();
#endif
        run World(); run Watch(); run Judge()
    }
}
