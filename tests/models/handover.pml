/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The hand-over of a move as docs/protocol.md tells it, from the stop of the guest on: two hosts with a VM's process, a mover and a daemon
 * each. Written from the protocol, not from src/move/handover.c: what a simulation prints is replayed through that
 * (replay_handover.c), line by line
 *
 *     WHO EVENT STATE ACTION...        sm, sd, dm, dd: mover and daemon of source and destination
 *
 * Messages are facts: once said they may be heard at any time, or never, by whoever listens. `given` and `taken` are the two
 * marks; what was written to `taken` and not `synced` is seen by all and forgotten, perhaps, when the power goes.
 *
 * -DCRASHES=n bounds how many processes and hosts end. -DCALM keeps trouble away until the commit is sent, for simulations that shall
 * come that far. -DFAULT=n takes a rule out, and the checker must find what comes of it:
 *   1 the source resumes when the link is lost       4 never is said before it is durable
 *   2 the commit is sent before `given` is durable   5 a host starts what it has given away
 *   3 the destination runs before `ran` is durable   6 the destination's daemon does not answer
 *
 * -DPOSTCOPY: memory is in two places from the run on, until the source's mover has served the rest (`whole`). Then
 *   7 nobody ends a VM whose mover has gone          8 the source's mover ends once it runs there
 */

#ifndef CRASHES
#define CRASHES 2
#endif
#ifdef CALM
#define trouble		(said_commit || sm == gone)
#else
#define trouble		true
#endif
#ifndef FAULT
#define FAULT 0
#endif
#ifdef POSTCOPY
#define halves true
#else
#define halves false
#endif

mtype = { NONE, OPEN, RAN, NEVER };				/* marks */
mtype = { STANDS, GIVEN, ARRIVES, RUNS, ENDED };		/* a VM's process */
mtype = { has, giving, given, kept, left };			/* a source */
mtype = { loads, ready, commits, open, closes, runs, closed };	/* a destination */
mtype = { gone };						/* no such process */
/* Events that several places tell of; "-" stands for "_" where they are read. */
mtype = { done, failed, cancel, link_lost, refused, cancelled, mark_failed, vm_died, result_unknown };

mtype source_mark = NONE;
mtype taken = OPEN;
bool synced = true;

mtype source_vm = STANDS, target_vm = ARRIVES;
bool give_order, commit_order, writing;		/* `writing`: holds the lock of `taken` */
mtype give_reply = NONE, commit_reply = NONE;	/* OPEN: given; NEVER: it could not. RAN, NEVER */
bool target_killed;
bool target_ran;				/* ever: what it did then others have seen */

mtype sm = has, sd = gone, dm = loads, dd = gone;
bool sm_dead, sd_dead, dm_ended, dd_ended;	/* they know that the VM's process has ended */
bool dm_never, dd_never, dm_takes, dd_takes;	/* never is durable; is to be tried for */

bool said_ready, said_refused, said_commit, said_ran, said_never, asked;
bool source_cancelled, target_cancelled;

bool whole = !halves;				/* what runs there has all of its memory */
bool link_lost_there;				/* its mover has seen that */
bool serves;					/* the source's mover has the rest, and the other's may ask it */
bool excused;					/* something broke: a VM in two places may be lost */

bool holder_died;				/* the only copy has gone: what comes is a start from the disks */
byte crashes;
bool peace;					/* no more crashes */

#define NOT_TWO()	assert(!(source_vm == RUNS && target_vm == RUNS))
#define is_asked	(asked && FAULT != 6)
#define source_listens	(sm == has || sm == giving || sm == given)

inline resume_source()
{
	assert((taken == NEVER && synced) || !said_commit || FAULT == 3);
	assert(!target_ran);
	if
	:: source_vm == GIVEN -> source_vm = RUNS; source_mark = NONE; NOT_TWO()
	:: else
	fi
}

inline leave_source()
{
	assert(taken == RAN && synced);
	if
	:: source_vm == GIVEN -> source_vm = ENDED; source_mark = RAN
	:: else
	fi
}

inline say_ran() { assert(taken == RAN && synced); said_ran = true }
inline say_never()
{
	assert(FAULT == 4 || (taken == NEVER && synced && target_vm == ENDED));
	said_never = true
}

/* ---- the source ---- */

inline keep_vm()
{
	sm = kept;
	if
	:: source_vm == STANDS && !give_order -> source_vm = RUNS; NOT_TWO()
	:: else
	fi;
	source_cancelled = true
}

inline keep(event)
{
	keep_vm();
	printf("sm %e kept cancel-vm send-cancel end\n", event)
}

inline begin_giving(event)
{
	sm = giving;
	give_order = (source_vm == STANDS);
#if FAULT == 2
	said_commit = true;
#endif
	printf("sm %e giving write-given\n", event)
}

active proctype source_mover()
{
	bool work, word, give_up, told;

	do
	/* the state is sent, the destination ready: in either order */
	:: atomic { sm == has && !work ->
		work = true;
		if
		:: word -> begin_giving(done)
		:: else -> printf("sm done has\n")
		fi }
	:: atomic { sm == has && !word && said_ready ->
		word = true;
		if
		:: work -> begin_giving(ready)
		:: else -> printf("sm ready has\n")
		fi }
	:: atomic { sm == has && trouble -> keep(cancel) }
	:: atomic { sm == has && trouble -> keep(link_lost) }
	:: atomic { sm == has && said_refused -> keep(refused) }
	:: atomic { sm == has && target_cancelled -> keep(cancelled) }
	:: atomic { sm == has && said_never ->
		keep_vm(); printf("sm never kept cancel-vm send-cancel end\n") }
	:: atomic { sm == has && source_vm == ENDED ->
		sm = kept; source_cancelled = true; printf("sm vm-died kept send-cancel end\n") }

	/* the mark is being written */
	:: atomic { sm == giving && give_reply == OPEN && !give_up ->
		give_reply = NONE; sm = given; said_commit = true;
		assert(FAULT || source_mark == OPEN || taken == NEVER || holder_died);
		printf("sm marked given send-commit\n") }
	:: atomic { sm == giving && give_reply == OPEN && give_up ->
		give_reply = NONE; sm = kept; source_cancelled = true; resume_source();
		printf("sm marked kept resume-vm send-cancel end\n") }
	:: atomic { sm == giving && give_reply == NEVER -> give_reply = NONE; keep(mark_failed) }
	:: atomic { sm == giving && give_reply == NONE ->
		sm = given; told = true; source_cancelled = true;
		printf("sm mark-unknown given send-cancel ask tell-in-doubt\n") }
	:: atomic { sm == giving && source_vm == ENDED ->
		sm = given; told = true; sm_dead = true; source_cancelled = true;
		printf("sm vm-died given send-cancel ask tell-in-doubt\n") }
	:: atomic { sm == giving && !give_up -> give_up = true; printf("sm cancel giving\n") }
	:: atomic { sm == giving && !give_up -> give_up = true; printf("sm link-lost giving\n") }
	:: atomic { sm == giving && !give_up && said_refused -> give_up = true; printf("sm refused giving\n") }
	:: atomic { sm == giving && !give_up && said_never -> give_up = true; printf("sm never giving\n") }

	/* given: it stands still until it hears one of two words */
#ifdef POSTCOPY
	:: atomic { sm == given && said_ran && !sm_dead ->
		sm = left; serves = (FAULT != 8); leave_source(); printf("sm ran left phase leave-vm\n") }
	:: atomic { sm == given && said_ran && sm_dead ->
		sm = left; serves = (FAULT != 8); source_mark = (source_mark == OPEN -> RAN : source_mark);
		printf("sm ran left phase settle-ran\n") }
	:: atomic { sm == left && serves && whole -> serves = false; printf("sm done left\n") }
	:: atomic { sm == left && serves && trouble ->
		serves = false; excused = true; sm = gone; printf("sm link-lost left end\n"); printf("sm leaves\n") }
	:: atomic { sm == left && serves && trouble ->
		serves = false; excused = true; sm = gone; printf("sm failed left end\n"); printf("sm leaves\n") }
#else
	:: atomic { sm == given && said_ran && !sm_dead ->
		sm = left; leave_source(); printf("sm ran left leave-vm\n") }
	:: atomic { sm == given && said_ran && sm_dead ->
		sm = left; source_mark = (source_mark == OPEN -> RAN : source_mark);
		printf("sm ran left settle-ran\n") }
#endif
	:: atomic { sm == given && said_never && !sm_dead ->
		sm = kept; resume_source(); printf("sm never kept resume-vm end\n") }
	:: atomic { sm == given && said_never && sm_dead ->
		sm = kept; source_mark = NONE; printf("sm never kept clear-given end\n") }
	:: atomic { sm == given && source_vm == ENDED && !sm_dead ->
		sm_dead = true; printf("sm vm-died given\n") }
	:: atomic { sm == given && !told -> told = true;
#if FAULT == 1
		sm = kept; if :: source_vm == GIVEN -> source_vm = RUNS; NOT_TWO() :: else fi;
#endif
		printf("sm link-lost given ask tell-in-doubt\n") }
	:: atomic { sm == given && told -> sm = gone; excused = true; printf("sm leaves\n") }
	:: atomic { sm == given && said_refused && !told -> told = true;
		printf("sm refused given ask tell-in-doubt\n") }
	:: atomic { (sm == kept || sm == left) && !serves -> sm = gone; printf("sm leaves\n") }
	:: sm == gone -> break
	od
}

/* Begins from the mark, whether or not the mover still lives. */
active proctype source_daemon()
{
end:	do
	:: atomic { sd == gone && source_mark == OPEN ->
		sd = given; asked = true;
		if
		:: source_vm != ENDED -> sd_dead = false; printf("sd restart-open-lives given ask tell-in-doubt\n")
		:: else -> sd_dead = true; printf("sd restart-open given ask tell-in-doubt\n")
		fi }
	:: atomic { sd == given && said_ran ->
		sd = gone;
		if
		:: !sd_dead -> leave_source(); printf("sd ran left leave-vm\n")
		:: else -> source_mark = (source_mark == OPEN -> RAN : source_mark);
			printf("sd ran left settle-ran\n")
		fi }
	:: atomic { sd == given && said_never ->
		sd = gone;
		if
		:: !sd_dead && source_vm == GIVEN -> resume_source(); printf("sd never kept resume-vm end\n")
		:: !sd_dead && source_vm != GIVEN ->	/* it does not stand there given, says who is asked */
			source_mark = NONE;
			printf("sd never kept resume-vm end\n"); printf("sd vm-died kept clear-given\n")
		:: else -> source_mark = NONE; printf("sd never kept clear-given end\n")
		fi }
	:: atomic { sd == given && source_vm == ENDED && !sd_dead ->
		sd_dead = true; printf("sd vm-died given\n") }
	od
}

/* The process of the VM that moves: does what it was ordered to, also when nobody waits for the answer any more. */
active proctype source_process()
{
end:	do
	:: atomic { give_order && source_vm == STANDS ->
		give_order = false; source_mark = OPEN; source_vm = GIVEN;
		if
		:: sm == giving -> give_reply = OPEN
		:: else
		fi }
	:: atomic { give_order && source_vm == STANDS && crashes < CRASHES && !peace ->
		crashes++; give_order = false;	/* an error; the mark may be there or not */
		if
		:: source_mark = OPEN
		:: skip
		fi;
		if
		:: sm == giving -> give_reply = NEVER
		:: else
		fi }
	:: atomic { !source_listens && source_vm == STANDS && !give_order -> source_vm = RUNS; NOT_TWO() }
	od
}

/* ---- the destination ---- */

inline close_mover(event)
{
	dm = closes; dm_takes = true;
	printf("dm %e closes take-never\n", event)
}

inline refuse(event)
{
	dm = closes; dm_takes = true; said_refused = true;
	printf("dm %e closes take-never send-refused\n", event)
}

/* What is missing of its memory will never come. */
inline lose_target()
{
	if
	:: target_vm == RUNS && !whole -> target_vm = ENDED; holder_died = true
	:: else
	fi
}

active proctype target_mover()
{
	byte after = (halves -> 3 : 0);	/* phases: 3 the rest of memory, 0 announce, 1 verify, 2 over */

	do
	:: atomic { dm == loads -> dm = ready; said_ready = true; printf("dm done ready send-ready\n") }
	:: atomic { dm == loads && trouble -> refuse(failed) }
	:: atomic { (dm == loads || dm == ready) && trouble ->
		dm = closes; dm_takes = true; target_cancelled = true;
		printf("dm cancel closes take-never send-cancel\n") }
	:: atomic { (dm == loads || dm == ready) && trouble -> link_lost_there = true; close_mover(link_lost) }
	:: atomic { (dm == loads || dm == ready) && source_cancelled -> close_mover(cancelled) }
	:: atomic { (dm == loads || dm == ready) && target_vm == ENDED ->
		dm_ended = true; refuse(vm_died) }
	:: atomic { dm == ready && said_commit ->
		dm = commits; commit_order = (target_vm == ARRIVES);
		printf("dm commit commits commit-vm\n") }

#ifdef POSTCOPY
	:: atomic { dm == commits && !link_lost_there && trouble -> link_lost_there = true; printf("dm link-lost commits\n") }
	:: atomic { dm == closes && !link_lost_there && trouble -> link_lost_there = true; printf("dm link-lost closes\n") }
	:: atomic { dm == commits && commit_reply == RAN && link_lost_there ->
		commit_reply = NONE; dm = runs; after = 2; say_ran(); excused = true; lose_target();
		printf("dm result-ran runs end-vm send-ran end\n") }
	:: atomic { dm == runs && after == 3 && serves -> whole = true; after = 0; printf("dm done runs phase\n") }
	:: atomic { dm == runs && after == 3 && trouble ->
		after = 2; excused = true; lose_target(); printf("dm failed runs end-vm end\n") }
	:: atomic { dm == runs && after == 3 && (trouble || sm == gone) ->
		after = 2; excused = excused || sm != gone; lose_target(); printf("dm link-lost runs end-vm end\n") }
	:: atomic { dm == runs && after == 3 && target_vm == ENDED -> after = 2; printf("dm vm-died runs end\n") }
#endif
	:: atomic { dm == commits && commit_reply == RAN && !(halves && link_lost_there) ->
		commit_reply = NONE; dm = runs; say_ran(); printf("dm result-ran runs phase send-ran\n") }
	:: atomic { dm == commits && commit_reply == NEVER ->
		commit_reply = NONE; dm = closes; dm_never = true; target_killed = true;
		printf("dm result-never closes end-vm\n") }
	:: atomic { dm == commits && commit_reply == NONE -> close_mover(result_unknown) }
	:: atomic { dm == commits && target_vm == ENDED -> dm_ended = true; close_mover(vm_died) }

	/* first wins, whoever else writes */
	:: atomic { dm == closes && dm_takes && writing -> dm_takes = false; printf("dm result-unknown closes\n") }
	:: atomic { dm == closes && dm_takes && !writing ->
		dm_takes = false;
		if
		:: taken == RAN ->
			synced = true; dm = runs; say_ran();
			if
			:: dm_ended -> after = 2; printf("dm result-ran runs send-ran end\n")
#ifdef POSTCOPY
			:: !dm_ended && link_lost_there ->
				after = 2; excused = true; lose_target(); printf("dm result-ran runs end-vm send-ran end\n")
			:: !dm_ended && !link_lost_there -> printf("dm result-ran runs phase send-ran\n")
#else
			:: else -> printf("dm result-ran runs phase send-ran\n")
#endif
			fi
		:: else ->
			taken = NEVER; synced = true; dm_never = true;
			if
			:: dm_ended -> dm = closed; say_never(); printf("dm result-never closed send-never end\n")
			:: else -> target_killed = true; printf("dm result-never closes end-vm\n")
			fi
		fi }
	:: atomic { dm == closes && dm_takes && !writing && taken == OPEN && crashes < CRASHES && !peace ->
		crashes++; dm_takes = false; taken = NEVER; synced = false; printf("dm result-unknown closes\n") }
	:: atomic { dm == closes && !dm_takes && !dm_never -> dm_takes = true; printf("dm tick closes take-never\n") }
	:: atomic { dm == closes && dm_never && target_vm == ENDED && !dm_ended ->
		dm_ended = true; dm = closed; say_never(); printf("dm vm-died closed send-never end\n") }
	:: atomic { dm == closes && !dm_never && target_vm == ENDED && !dm_ended ->
		dm_ended = true; printf("dm vm-died closes\n") }

	:: atomic { dm == runs && after == 0 -> after = 1; printf("dm done runs phase\n") }
	:: atomic { dm == runs && after == 1 -> after = 2; printf("dm done runs send-verified end\n") }
	:: atomic { dm == runs && after == 2 -> dm = gone; printf("dm leaves\n") }
	:: atomic { dm == closed -> dm = gone; printf("dm leaves\n") }
	:: dm == gone -> break
	od
}

inline daemon_answers()
{
	if
	:: taken == RAN -> synced = true; dd = gone; say_ran(); printf("dd result-ran runs send-ran end\n")
	:: else ->
		taken = NEVER; synced = true; dd_never = true;
		if
		:: dd_ended -> dd = gone; say_never(); printf("dd result-never closed send-never end\n")
		:: else -> target_killed = true; printf("dd result-never closes end-vm\n")
		fi
	fi
}

/* Answers by the mark. One without a result is closed first, then the process is ended, then never is said. */
active proctype target_daemon()
{
end:	do
	:: atomic { dd == gone && is_asked && !said_ran && !said_never && !writing && taken == RAN ->
		synced = true;
		if
		:: target_vm == ENDED -> printf("dd restart-ran runs\n")
		:: else -> printf("dd restart-ran-lives runs\n")
		fi;
		say_ran(); printf("dd ask runs send-ran\n") }
	:: atomic { dd == gone && is_asked && !said_ran && !said_never && !writing && taken == NEVER ->
		synced = true; dd_never = true;
		if
		:: target_vm == ENDED ->
			say_never(); printf("dd restart-never closed send-never end\n");
			printf("dd ask closed send-never\n")
		:: else ->
			dd = closes; dd_ended = false; dd_takes = false; target_killed = true;
			printf("dd restart-never-lives closes end-vm\n"); printf("dd ask closes\n")
		fi }
	:: atomic { dd == gone && is_asked && !said_ran && !said_never && (writing || taken == OPEN) ->
		dd = closes; dd_takes = true; dd_never = false;
		if
		:: target_vm == ENDED ->
			dd_ended = true; printf("dd restart-open closes take-never\n");
			printf("dd ask closes\n")
		:: else ->
			dd_ended = false; printf("dd restart-open-lives open\n");
			printf("dd ask closes take-never\n")
		fi;
#if FAULT == 4
		say_never();
#endif
		}
	:: atomic { dd == closes && dd_takes && writing ->
		dd_takes = false; printf("dd result-unknown closes send-undecided\n") }
	:: atomic { dd == closes && dd_takes && !writing -> dd_takes = false; daemon_answers() }
	:: atomic { dd == closes && !dd_takes && !dd_never ->
		dd_takes = true; printf("dd tick closes take-never send-undecided\n") }
	:: atomic { dd == closes && target_vm == ENDED && !dd_ended ->
		dd_ended = true;
		if
		:: dd_never -> dd = gone; say_never(); printf("dd vm-died closed send-never end\n")
		:: else -> printf("dd vm-died closes\n")
		fi }
	od
}

active proctype target_process()
{
end:	do
	:: atomic { commit_order && target_vm == ARRIVES && taken == NEVER ->
		synced = true; commit_order = false; target_vm = ENDED;
		if
		:: dm == commits -> commit_reply = NEVER
		:: else
		fi }
	:: atomic { commit_order && target_vm == ARRIVES && taken != NEVER ->
		commit_order = false; writing = true; taken = RAN; synced = false;
#if FAULT == 3
		target_vm = RUNS; target_ran = true; NOT_TWO();
#endif
		}
	:: atomic { writing ->
		writing = false; synced = true; target_vm = RUNS; target_ran = true; holder_died = false; NOT_TWO();
		if
		:: dm == commits -> commit_reply = RAN
		:: else
		fi }
	:: atomic { dm == gone && target_vm == ARRIVES && !commit_order && !writing -> target_vm = ENDED }
	/* who was to bring its memory has gone, and its process sees that itself */
	:: atomic { dm == gone && target_vm == RUNS && !whole && FAULT != 7 -> target_vm = ENDED; holder_died = true }
	:: atomic { target_killed && target_vm != ENDED ->
		assert(target_vm != RUNS); target_vm = ENDED; commit_order = false; writing = false }
	od
}

/* ---- what ends without being asked ---- */

inline end_source_process()
{
	holder_died = holder_died || source_vm == RUNS || source_vm == STANDS ||
		      (source_vm == GIVEN && taken != RAN);
	source_vm = ENDED; give_order = false
}

inline end_target_process()
{
	holder_died = holder_died || target_vm == RUNS || writing;
	target_vm = ENDED; commit_order = false; writing = false
}

active proctype faults()
{
	do
	:: atomic { crashes < CRASHES && trouble && sm != gone -> crashes++; sm = gone; printf("sm dies\n") }
	:: atomic { crashes < CRASHES && trouble && sd != gone -> crashes++; sd = gone; printf("sd dies\n") }
	:: atomic { crashes < CRASHES && trouble && dm != gone -> crashes++; dm = gone; printf("dm dies\n") }
	:: atomic { crashes < CRASHES && trouble && dd != gone -> crashes++; dd = gone; printf("dd dies\n") }
	:: atomic { crashes < CRASHES && trouble && source_vm != ENDED -> crashes++; end_source_process() }
	:: atomic { crashes < CRASHES && trouble && target_vm != ENDED -> crashes++; end_target_process() }
	:: atomic { crashes < CRASHES && trouble ->	/* the source's power */
		crashes++; end_source_process(); sm = gone; sd = gone;
		printf("sm dies\n"); printf("sd dies\n") }
	:: atomic { crashes < CRASHES && trouble ->	/* the destination's */
		crashes++;
		if
		:: !synced ->			/* forgotten: then it was no holder either */
			holder_died = holder_died || (taken == RAN && source_vm != GIVEN);
			taken = OPEN; writing = false
		:: skip
		fi;
		synced = true; end_target_process(); dm = gone; dd = gone;
		printf("dm dies\n"); printf("dd dies\n") }
	:: trouble -> peace = true; break
	od
}

/* Autostart, or a person: by both marks. */
active proctype starts()
{
end:	do
	:: atomic { source_vm == ENDED && (source_mark == NONE || source_mark == NEVER || FAULT == 5) ->
		assert(holder_died); holder_died = false; source_vm = RUNS; NOT_TWO() }
	:: atomic { target_vm == ENDED && taken == RAN ->
		assert(holder_died && (excused || crashes)); holder_died = false;
		synced = true; whole = true; target_vm = RUNS; target_ran = true; NOT_TWO() }
	od
}

/* When nothing is left to be done the doubt is gone, and one runs. */
active proctype settled()
{
	timeout -> assert(source_mark != OPEN && (source_vm == RUNS || (target_vm == RUNS && whole)))
}
