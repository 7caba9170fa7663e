/* Handover and recovery, for exhaustive search: who may run the guest, and where its memory is,
 * whatever crashes. README.md says what is modelled and how to read a counterexample.
 *
 *   source, journal:       LIVE ─► FREEZING ─────────────────────────► DRAINING ────────► ENDED
 *                                     │ word OPEN ─► COMMIT ─┐          ▲ RESUMED            ▲ DRAINED
 *   destination, Query:    WAITING ───────────────────────► COMMITTED ─┴─► RESUMED ─────────┘
 *   destination, journal:  LIVE                              CONT          DRAINING ─► DRAINED
 *
 * -DPOSTCOPY      the guest resumes before its last page has come; without it all came before
 * -DSWITCH        either, as the source chooses while the guest runs and once more when it stands
 * -DEARLY_FAULTS  with it: the destination's QEMU touches memory before it loads the device state
 * -DOTHERS        later migrations of the same VM, by the agents of either side, to a third host
 * -DCRASHES=n     processes that die, -DCUTS=n connections that break, -DREFUSALS=n times that the
 *                 destination's QEMU answers `cont` with an error, -DBLACKOUTS=n hosts that lose
 *                 their power; each at any moment
 * -DBREAK_…       one step done wrong, -DHOLE_… the protocol before a correction: must be found
 * -DSEEK_…        an end of which the search must say that it can be reached
 *
 * A statement, or an atomic block, is what no crash can divide. Each agent is one process that takes
 * its steps in order and may die between any two; its helper threads keep where they are in globals
 * (`rs`, `fs`), so that they die with it.
 */
#if defined(SWITCH) && !defined(POSTCOPY)
#define POSTCOPY
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef CUTS
#define CUTS 1
#endif
#ifndef REFUSALS
#define REFUSALS 1
#endif
#ifndef BLACKOUTS
#define BLACKOUTS 0
#endif

mtype = { NOTHING };
mtype = { OPEN, COMMIT, ABORT };                                     /* the decision word */
mtype = { LIVE, FREEZING, CONT, DRAINING, DRAINED, REFUSED, ENDED }; /* phases in journals */
mtype = { RUNNING, QUIET, SAVING, COMPLETED, STARTING, LOADED, DEAD }; /* QEMUs */
mtype = { DOWN, WAITING, COMMITTED, RESUMED, REBOOTED }; /* the destination's agent, with REFUSED */
mtype = { SOURCE_AGENT, DESTINATION_AGENT, GUARD, SOURCE_HOST }; /* who is killed */
mtype = { MIGRATE, CONTINUE };                       /* QMP, with CONT */
mtype = { BEGIN, READY, OFF, PUNCH, MARKER, ACK, FINAL, STATE, ASK, PAGE, LAST }; /* frames, with LOADED, COMMIT, RESUMED, … */
mtype = { ABSENT, OLD, GOOD, NEWER, ZEROED };        /* a page at the destination */
mtype = { QUEUED, READ };     /* a fault: to be read from the userfaultfd, or read and not answered */
mtype = { HAVE_STALE, HAVE_HOLE, ZERO_STALE, WAKE_HOLE };  /* where the fault server is */
mtype = { PUNCHING, FILLING };                       /* where the receiver of pages is */

#include "phases.pml" /* made from the engine's own tables */

/* --- what outlives its process ------------------------------------------------------------- */
mtype word = OPEN;           /* engine/handover/decision_word */
mtype s_journal = LIVE;      /* engine/handover/journal */
mtype d_journal = LIVE;
bool d_gone = false;         /* in the journal: the guest's QEMU ended after COMMIT */
bool kept = false;           /* the hard link to the source's RAM file */
#ifdef POSTCOPY
bool served = false;         /* pages are missing: both journals, or the answer to Query, tell */
#else
#define served false
#endif
mtype sq = RUNNING;          /* the source's QEMU */
mtype dq = STARTING;         /* the destination's QEMU, with -S */

/* --- the network: one connection is the urgent stream and the data streams of a generation ---- */
bool up = true;
chan urgent = [3] of { mtype };   /* source to destination */
chan data = [4] of { mtype };
chan replies = [4] of { mtype };  /* the urgent stream's other direction */

/* --- QMP: a command that was written is carried out, though its sender may be dead ------------ */
chan sq_qmp = [1] of { mtype };
chan dq_qmp = [1] of { mtype };
mtype cont_answer = NOTHING;

/* --- the source's agent, what dies with it ---------------------------------------------------- */
bool s_up = true, s_restarted = false, s_done = false;
bool pushing = false, to_push = false, last_sent = false;
bool pages_gone = false;      /* said to the destination by Reconnect: no RAM file to push from */

#if defined(POSTCOPY) && !defined(SWITCH)
#define ARMED_FROM_THE_START
byte s_phase = S_ARMED;
#else
byte s_phase = S_ROUNDS;
#endif

/* --- the guard; its agent is gone when a successor would be `s_restarted` ---------------------- */
bool armed = false, dismissed = false, guard_over = false, guard_died = false;

/* --- the destination's agent, what dies with it ------------------------------------------------ */
mtype d_state = WAITING;      /* what Query answers */
bool d_up = true, d_restarted = false;
bool state_came = false;      /* the device state was handed to QEMU */
#ifdef ARMED_FROM_THE_START
bool serving = true;          /* it holds the userfaultfd and answers faults */
byte d_phase = D_ARMED;
#else
bool serving = false;
byte d_phase = D_LIVE;
#endif
byte lasts = 0;               /* how many of this generation's two streams sent the last marker */
mtype rs = NOTHING, fs = NOTHING;

/* --- memory at the destination. One page is stale: the source marks it in M and has it punched.
 * Another is a hole at both ends: zero is its content, and its fault is answered here. ----------- */
bool m = false;               /* M, in a mapped file: outlives the agent */
mtype stale = OLD;            /* or ABSENT, when it was never sent */
bool hole_filled = false;
#ifdef ARMED_FROM_THE_START
bool registered = true;       /* with the userfaultfd, which lives in QEMU */
#else
bool registered = false;
#endif
mtype stale_fault = NOTHING, hole_fault = NOTHING;
bool other_view = false;      /* the fault came through the view that a fill does not wake */

/* --- the world's budget, and what only the judge knows ----------------------------------------- */
byte crashes = CRASHES, cuts = CUTS, refusals = REFUSALS, blackouts = BLACKOUTS;
bool s_blackout = false, d_blackout = false; /* a journal knows: it has the boot's id */
mtype killed = NOTHING;
bool sq_died = false, dq_died = false;  /* by itself */
bool ran_here = false;                  /* the guest has run at the destination */
bool committed = false;                 /* the word was COMMIT */
bool has_refused = false;               /* the destination has written REFUSED, once */
bool was_gone = false;                  /* or that the guest is gone */
bool was_lost = false;                  /* in doubt: nothing stands here, and there nothing is left */
bool taken_back = false;                /* a switch to post-copy */
bool others = false;                    /* a later migration has taken the guest */
bool stale_read = false, hole_read = false;

#ifdef POSTCOPY
#define DESTINATION_COMPLETE (dq != DEAD && (stale == GOOD || stale == NEWER))
#else
#define DESTINATION_COMPLETE (dq != DEAD)
#endif
/* Its QEMU died by itself, on the side that owned it; or its missing pages did. */
#define GUEST_DEAD ((sq_died && (!committed || has_refused)) || \
                    (dq_died && (ran_here || was_gone)) || (sq_died && was_lost) || \
                    (s_blackout && !DESTINATION_COMPLETE))

/* A death is one step: nothing happens between the blow and its effect. */
#define DIES_AS(who) provided (killed == NOTHING || who)
#define RUNS provided (killed == NOTHING)


inline drop(stream) { do :: stream?_ :: empty(stream) -> break od }
/* What was on its way may still be read, or not. */
inline maybe_drop(stream) { if :: drop(stream) :: nempty(stream) -> skip fi }
/* A write into a broken connection is lost without a word. (A macro: a trace then names the frame.) */
#define send(stream, frame) \
    atomic { if :: up -> assert(nfull(stream)); stream!frame :: else fi }

#include "checks.pml"
#include "source.pml"
#include "memory.pml"
#include "destination.pml"
#include "world.pml"
