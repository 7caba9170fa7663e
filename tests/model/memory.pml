/* Memory at the destination: punches, fills, faults. */

/* A fill through one view wakes whoever waits in that view. */
inline wake(fault) { fault = NOTHING; other_view = false }
inline wake_one_view(fault) { if :: !other_view -> fault = NOTHING :: else fi }
inline wake_all() { wake(stale_fault); wake(hole_fault) }

/* The punch, and SEEK_DATA after it: a folio that somebody holds is zeroed and stays. Then the streams
 * are broken, and the migration ends before COMMIT. */
inline punch() {
    if
    :: stale = ABSENT
    :: stale != ABSENT -> stale = ZEROED;
#ifndef BREAK_PUNCH_UNCHECKED
        up = false
#endif
    fi
}

/* UFFDIO_COPY: fills a hole, or finds the page there (EEXIST); after UNREGISTER it is refused. */
inline copy_page() {
    if
    :: !registered
    :: registered && stale == ABSENT -> stale = GOOD; wake_one_view(stale_fault)
    :: registered && stale != ABSENT ->
#ifdef BREAK_DRAIN_OVERWRITES
        check(stale != NEWER, guest_write_lost);
#endif
        wake(stale_fault)
    fi
}

/* A crash may come between the two; before the first it is as if the frame had been lost. */
inline fill() {
#ifdef BREAK_M_CLEARED_EARLY
    m = false;
#else
    copy_page();
#endif
    rs = FILLING
}
inline finish_fill() {
#ifdef BREAK_M_CLEARED_EARLY
    copy_page(); wake(stale_fault)
#else
    wake(stale_fault); /* in the other views */
    m = false
#endif
}

/* UFFDIO_ZEROPAGE where M says that nothing is to come. */
inline zero_stale() {
    if :: stale == ABSENT -> stale = ZEROED :: else fi;
    wake(stale_fault)
}

#ifdef POSTCOPY
/* The threads that receive punches and pages. Pages enter by UFFDIO_COPY only: the first copy wins.
 * M is set before its page is punched, and cleared after its page is in place. */
proctype Receiver() RUNS {
end:
    do
#ifdef BREAK_PUNCH_BEFORE_M
    :: atomic { rs == NOTHING && data?[PUNCH] -> data?PUNCH; destination_hears_data_punch();
           punch(); rs = PUNCHING }
    :: atomic { rs == PUNCHING -> m = true; rs = NOTHING }
#else
    :: atomic { rs == NOTHING && data?[PUNCH] -> data?PUNCH; destination_hears_data_punch();
           m = true; rs = PUNCHING }
    :: atomic { rs == PUNCHING -> punch(); rs = NOTHING }
#endif
    :: atomic { rs == NOTHING && data?[MARKER] -> data?MARKER; destination_hears_data_marker();
           send(replies, ACK) }
    :: atomic { rs == NOTHING && data?[LAST] -> data?LAST; destination_hears_data_marker();
           lasts++ }
    :: atomic { rs == NOTHING && urgent?[LAST] -> urgent?LAST; destination_hears_urgent_marker();
           lasts++ }
#ifdef SWITCH /* nobody waits for it: it is written where it belongs */
    :: atomic { rs == NOTHING && (d_phase == D_LIVE || d_phase == D_ARMING || d_phase == D_ARMED) &&
           data?[PAGE] -> data?PAGE; destination_hears_data_pages(); stale = GOOD }
#endif
    :: atomic { rs == NOTHING && serving && d_phase >= D_PUNCHED && data?[PAGE] -> data?PAGE; destination_hears_data_pages();
           fill() }
    :: atomic { rs == NOTHING && serving && urgent?[PAGE] -> urgent?PAGE;
           destination_hears_urgent_fault_pages(); fill() }
    :: atomic { rs == FILLING -> finish_fill(); rs = NOTHING }
    od
}

/* Before, not every stale page is known, and the source does not answer. */
#define ASKS (d_phase == D_SERVING || d_phase == D_COMMITTED_SERVING || d_phase == D_DRAINING)

/* The thread that answers faults. Its look at M and its zero page are one step against the
 * receiver's M and punch: one lock. */
proctype FaultServer() RUNS {
end:
    do
    :: atomic { serving && fs == NOTHING && stale_fault == QUEUED && m && ASKS ->
           stale_fault = READ; send(replies, ASK) }
    :: atomic { serving && fs == NOTHING && stale_fault == QUEUED && !m ->
           stale_fault = READ; fs = HAVE_STALE }
    :: atomic { serving && fs == NOTHING && hole_fault == QUEUED ->
           hole_fault = READ; fs = HAVE_HOLE }
    :: atomic { fs == HAVE_STALE && m && ASKS -> fs = NOTHING; send(replies, ASK) }
#ifdef HOLE_ZERO_WITHOUT_LOCK
    :: atomic { fs == HAVE_STALE && !m -> fs = ZERO_STALE }
    :: atomic { fs == ZERO_STALE -> zero_stale(); fs = NOTHING }
#else
    :: atomic { fs == HAVE_STALE && !m -> zero_stale(); fs = NOTHING }
#endif
    :: atomic { fs == HAVE_HOLE -> hole_filled = true; wake_one_view(hole_fault); fs = WAKE_HOLE }
    :: atomic { fs == WAKE_HOLE -> wake(hole_fault); fs = NOTHING }
    od
}
#endif

/* A page that is absent waits for the userfaultfd, or, without one, is zero. A fault may wait for
 * ever (the agent is gone for good); whether that is a good end, the judge says. (Macros, because
 * each use needs a label of its own.) */
#define ACCESS(page_is_there, zero, fault, end_here) \
    do \
    :: page_is_there -> break \
    :: atomic { !(page_is_there) && !registered -> zero } \
    :: atomic { !(page_is_there) && registered -> fault = QUEUED; \
           if :: other_view = false :: other_view = true fi }; \
end_here: \
       fault == NOTHING \
    od
#define TOUCH_STALE(end_here) ACCESS(stale != ABSENT, stale = ZEROED, stale_fault, end_here)
#define TOUCH_HOLE(end_here) ACCESS(hole_filled, hole_filled = true, hole_fault, end_here)
