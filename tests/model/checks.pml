/* What must never be, and how every run must end. Each check has a name, which is what the search
 * prints when it fails: "assertion violated !(two_guests_run)". */
bool two_guests_run, stale_copy_run, run_before_commit, run_after_commit, no_complete_copy;
bool wrong_page_read, guest_write_lost, running_guest_killed, guest_declared_dead;
bool guard_too_late, meddled, stuck, guest_left_paused, guest_lost, left_behind;
bool illegal_frame; /* on a connection that stands, one that the engine's tables do not have then */
bool reached; /* what was sought, not a fault */

inline violated(what) { what = true; assert(!what) }
inline check(condition, what) { if :: !(condition) -> violated(what) :: else fi }

inline run_at_source() {
    check(!committed || has_refused, run_after_commit);
    check(!ran_here, stale_copy_run);
    check(!others, meddled);
    sq = RUNNING
}

inline run_at_destination() { atomic {
    check(committed, run_before_commit);
    check(!others, meddled);
    ran_here = true;
    dq = RUNNING
} }

inline kill_at_source() { atomic {
    check(sq != RUNNING, running_guest_killed);
    sq = DEAD
} }

inline kill_at_destination() { atomic {
    check(dq != RUNNING, running_guest_killed);
    dq = DEAD; wake_all()
} }

/* A guest whose missing pages are lost runs no further. */
inline end_at_destination() { atomic { dq = DEAD; wake_all() } }

/* By now another migration may own the guest. */
inline touch_by_guard() { check(s_journal != ENDED, guard_too_late) }

/* By QEMU's load, by its `cont`, by the guest. */
inline read_stale() { check(stale == GOOD || stale == NEWER, wrong_page_read) }
inline write_stale() { stale = NEWER; stale_read = true }
