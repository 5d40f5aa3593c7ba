/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who may run a protected VM, as docs/arbiter.md tells it: hosts with a process each that holds the VM or a copy of it, and an arbiter with
 * one record. Written from the rules, not from src/protect/ownership.c: what a simulation prints is replayed through that
 * (replay_ownership.c), line by line
 *
 *     WHO EVENT [ARGUMENT]: ACTION... is ROLE GATE REVISION
 *     record REVISION MODE OWNER BACKUP        a swap has landed
 *     copy WHO REVISION                        a process that is sent a copy begins
 *
 * Processes are numbers, never given twice; a copy's session has the number of its process. Whoever does nothing for a while is frozen. What
 * was said (acknowledgements, records, that a copy is left) may be heard late, again, or never. A swap is under way until the record is
 * another, whether or not somebody waits for its answer; its answer, or a read, may tell of any revision since.
 *
 * Of what the guest puts out one output is followed, x, which may be any: no rule looks into outputs, so what holds for each holds for all.
 *
 * Sizes: HOSTS, COPIES ever made, REVISIONS and EPOCHS while there are faults, CRASHES, STARTS from the disks; OFF: the guest may switch
 * itself off. PEACE: at some moment faults end, with or without a majority of the arbiter, and at the end somebody must run it.
 * NOISE: also what must change nothing happens. CALM=n: no faults before revision n, for simulations that shall come far.
 *
 * -DGOAL=n: so much is wrong, and the checker finds a way there.
 *
 * -DFAULT=n takes a rule out, and the checker must find what comes of it:
 *   1 an acknowledgement of any session counts	    9 who lost the VM to a claim ends at once
 *   2 output leaves though the gate is shut		   10 the record names hosts
 *   3 old answers are acted on				   11 a copy claims that the record does not name
 *   4 a read settles an unknown swap			   12 a guest's power-off is not held
 *   5 an owner without its backup opens at once	   13 a swap without an answer is not asked again
 *   6 an epoch from before the gate makes a backup	   14 nobody takes back what a claimant leaves
 *   7 a claimant still acknowledges			   15 a power-off before the second swap is forgotten
 *   8 a claimant puts out before the second swap	   16 protection is given up without a swap
 *  17 a pair does not carry on without the arbiter
 */

#ifndef HOSTS
#define HOSTS 3
#endif
#ifndef COPIES
#define COPIES 2
#endif
#ifndef REVISIONS
#define REVISIONS 7
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef STARTS
#define STARTS 0
#endif
#ifndef FAULT
#define FAULT 0
#endif
#ifndef GOAL
#define GOAL 0
#endif
#ifdef OFF
#define may_switch_off true
#else
#define may_switch_off false
#endif
#ifdef NOISE
#define noise true
#else
#define noise false
#endif
#ifdef CALM
#define trouble (storm && now >= CALM)
#else
#define trouble storm
#endif

#define PROCESSES (2 + COPIES + STARTS)			/* numbers, 0 is nobody */
#define SPARE 5						/* revisions that are left for the peace */
#define NUMBERS (REVISIONS + SPARE + 1)

mtype = { solo, claimed, protected, stopped };		/* modes; two are roles as well */
mtype = { starts, deposed, backs_up, claims, has_ended };
mtype = { open, shut };

/* ---- the arbiter ---- */

mtype mode[NUMBERS];
byte owner[NUMBERS], backup[NUMBERS];
byte now = 1;						/* the revision that stands */
byte under_way[PROCESSES];				/* swaps of `now`, a bit for each mode */
byte their_session[PROCESSES];				/* and of the one to protected */

#define bit_of(m) ((m) == solo -> 1 : ((m) == claimed -> 2 : ((m) == protected -> 4 : 8)))
#define from(v) owner[(v) - 1]				/* of a claim */

/* ---- the hosts ---- */

typedef Process {
	mtype role;					/* 0: none here */
	byte id;
	byte revision;					/* of the record last acted on */
	mtype want;					/* the mode of the swap that has no answer yet; 0: none */
	bit waits;					/* to ask again: an answer told nothing */
	byte session, cut, acked, gate_at, off_at;	/* owner's */
	bit gated, give_up, off, take_back;		/* `off`: knows that the guest is, since before the epoch `off_at` */
	byte whole;					/* a copy's last epoch */
	bit named, prepared, runs_held;
	bit x, holds_x;					/* in its memory; not put out yet */
	byte x_epoch;
};
Process hosts[HOSTS];

byte minted = 1, crashes, begun;
byte home[PROCESSES];					/* its host + 1 */
byte alive = 2, crashed, left;				/* a bit for each process; `left`: its owner said that it sends no more */

typedef Copy {
	byte begin, last;				/* epochs after the first, up to the second were sent */
	byte x_from;					/* the first of them that contains x; 0: none */
	byte said;					/* acknowledged */
};
Copy copies[PROCESSES];

bit x_was, x_out, x_over;				/* put out by a guest; by its host; in a life before a start from disks */
byte releaser[NUMBERS];					/* of each generation */
bool storm = true, majority = true;

hidden byte met;					/* set by check_model.py beside what it wants to see */
hidden byte told, wanted, went, leaves;			/* for a step only */
#define nothing		0
#define acked_epochs	1
#define all		2

#define me		hosts[_pid]
#define is_open(p)	(p.role == solo && !p.gated)
#define owns		(me.role == solo || me.role == protected)
#define guest_runs	(owns || me.role == deposed || (me.role == claims && me.runs_held))
#define lives(n)	((alive >> (n)) & 1)
#define same(a, b)	(FAULT == 10 -> home[a] == home[b] : (a) == (b))
#define host_of(n)	hosts[home[n] - 1]
#define copy_has_x(n, epoch) ((epoch) && copies[n].x_from && (epoch) >= copies[n].x_from)

/* ---- what must hold ---- */

#define has_x(n) (host_of(n).x || (host_of(n).role == backs_up || (host_of(n).role == claims && !host_of(n).runs_held)) && \
		  copy_has_x(n, host_of(n).whole))

/* Whom the record counts on has all that was put out, and ended only where it could not help it. */
#define must_hold(n) \
	assert(lives(n) || ((crashed >> (n)) & 1)); \
	assert(!lives(n) || !x_out || host_of(n).role == starts || has_x(n))

inline check()
{
	if
	:: mode[now] == stopped
	:: else -> must_hold(owner[now])
	fi;
	if
	:: mode[now] == protected -> must_hold(backup[now])
	:: mode[now] == claimed -> must_hold(from(now))
	:: else
	fi
}

/* Whether or not x is among what leaves. */
inline put_out()
{
	if
	:: leaves == nothing
	:: else ->
		assert(!releaser[me.revision] || releaser[me.revision] == me.id);
		releaser[me.revision] = me.id;
		x_out = x_out || (me.holds_x && !x_over && (leaves == all || me.x_epoch <= me.acked));
		me.x_epoch = (leaves == all || me.x_epoch <= me.acked -> 0 : me.x_epoch);
		me.holds_x = me.holds_x && me.x_epoch;
		leaves = nothing
	fi
}

/* What its owner may have come to, for trails that go far. */
#define is_failover(v) (mode[v] == solo && mode[(v) - 1] == claimed && owner[v] == owner[(v) - 1])
#if GOAL == 1		/* by a second failover */
#define goal	(now > 6 && is_failover(now) && mode[now - 2] == protected && is_failover(now - 3))
#elif GOAL == 2		/* winning back what was claimed */
#define goal	(mode[now] == solo && mode[now - 1] == claimed && owner[now] == from(now - 1))
#elif GOAL == 3		/* a guest that was off before the second swap */
#define goal	(is_failover(now) && me.off)
#elif GOAL == 4		/* a start, after it was stopped by who took over */
#define goal	(now > 5 && mode[now] == solo && mode[now - 1] == stopped && is_failover(now - 2))
#elif GOAL == 5		/* protection by the host that it ran on first */
#define goal	(mode[now] == protected && owner[now] > 1 && home[backup[now]] == home[1])
#else
#define goal	false
#endif

/* ---- the rules ---- */

inline clear(p)
{
	p.role = 0; p.id = 0; p.revision = 0; p.want = 0; p.waits = 0;
	p.session = 0; p.cut = 0; p.acked = 0; p.gate_at = 0; p.off_at = 0;
	p.gated = 0; p.give_up = 0; p.off = 0; p.take_back = 0;
	p.whole = 0; p.named = 0; p.prepared = 0; p.runs_held = 0;
	p.x = 0; p.holds_x = 0; p.x_epoch = 0
}

inline want_mode()
{
	wanted = 0;
	if
	:: me.role == starts -> wanted = solo
	:: owns && me.give_up -> wanted = solo
	:: owns && !me.give_up && me.off && (!me.gated || me.acked >= me.off_at) -> wanted = stopped
	:: owns && !me.give_up && !(me.off && (!me.gated || me.acked >= me.off_at)) ->
		wanted = (me.role == solo && me.gated && me.acked >= me.gate_at -> protected : 0)
	:: me.role == deposed && me.take_back && FAULT != 14 -> wanted = solo
	:: me.role == backs_up && me.prepared -> wanted = claimed
	:: me.role == claims && me.runs_held -> wanted = solo
	:: else
	fi
}

/* The end of each step. */
inline settle()
{
	want_mode();
	if
	:: wanted && !me.want && !me.waits ->
		me.want = wanted;
		if
		:: me.revision == now ->
			under_way[me.id] = under_way[me.id] | bit_of(wanted);
			their_session[me.id] = (wanted == protected -> me.session : their_session[me.id])
		:: else
		fi;
		printf(" swap")
	:: else
	fi;
	if
	:: is_open(me) -> printf(" is %e open %d\n", me.role, me.revision)
	:: else -> printf(" is %e shut %d\n", me.role, me.revision)
	fi;
	put_out();
	if
	:: me.role == has_ended -> went = me.id; clear(me); alive = alive & ~(1 << went)
	:: else
	fi;
	check();
	assert(!met && (!GOAL || me.id != owner[now] || me.revision != now || !goal))
}

inline leave_copy()
{
	left = (me.session -> left | (1 << me.session) : left);
	me.session = 0; me.acked = 0; me.gate_at = 0; me.gated = 0; me.give_up = 0
}

inline become_solo()
{
	me.role = solo; me.take_back = 0;
	leave_copy();
	printf(" open");
	leaves = all
}

inline end_vm() { me.role = has_ended; printf(" stop-vm end") }

inline owner_follows(v)
{
	if
	:: same(owner[v], me.id) && mode[v] == solo -> become_solo()
	:: same(owner[v], me.id) && mode[v] == protected ->
		me.role = protected;
		me.give_up = me.give_up || !same(backup[v], me.session)
	:: !same(owner[v], me.id) && mode[v] == claimed && same(from(v), me.id) && FAULT != 9 ->
		me.role = deposed; me.take_back = 0
	:: else ->
		assert(mode[v] != stopped || !same(owner[v], me.id) || !me.holds_x);
		end_vm()
	fi
}

inline copy_follows(v)
{
	if
	:: mode[v] == claimed && same(owner[v], me.id) -> me.role = claims; printf(" apply")
	:: mode[v] == protected && same(backup[v], me.id) -> me.named = 1
	:: else ->
		if
		:: me.named || mode[v] == stopped -> me.role = has_ended; printf(" discard end")
		:: else
		fi
	fi
}

inline claimant_follows(v)
{
	if
	:: mode[v] == solo && same(owner[v], me.id) ->
		me.role = solo; me.cut = me.whole; me.acked = 0; me.whole = 0;
		me.named = 0; me.prepared = 0; me.runs_held = 0;
		me.holds_x = me.x;		/* what it can not know to have left */
		printf(" replay open announce");
		leaves = all
	:: else -> end_vm()
	fi
}

inline start_follows(v)
{
	if
	:: mode[v] == solo && same(owner[v], me.id) -> me.role = solo; printf(" run open"); leaves = all
	:: else -> me.role = has_ended; printf(" end")
	fi
}

inline follow(v)
{
	me.revision = v; me.waits = 0;
	if
	:: owns || me.role == deposed -> owner_follows(v)
	:: me.role == backs_up -> copy_follows(v)
	:: me.role == claims -> claimant_follows(v)
	:: me.role == starts -> start_follows(v)
	fi
}

/* Of a swap that is still under way nothing certain is said. */
#define has_answer	(me.want && !(me.revision == now && (under_way[me.id] & bit_of(me.want))))
#define is_won(v)	((v) == me.revision + 1 && owner[v] == me.id && mode[v] == me.want)

/* Of any revision that stood since, in the peace of the newest. */
#define is_new(v)	((v) <= now && (v) > me.revision && (storm || (v) == now))
#define is_old(v)	((v) <= now && (v) <= me.revision && (storm || (v) == now))
#define hears_old	(storm && me.role && (noise || FAULT == 3 || FAULT == 4))

/* An answer that tells nothing new is as good as any other that does not. */
inline choose_revision(may_be_old)
{
	if
	:: is_new(1) || (is_old(1) && (may_be_old)) -> told = 1
	:: is_new(2) || (is_old(2) && (may_be_old)) -> told = 2
	:: is_new(3) || (is_old(3) && (may_be_old)) -> told = 3
	:: is_new(4) || (is_old(4) && (may_be_old)) -> told = 4
	:: is_new(5) || (is_old(5) && (may_be_old)) -> told = 5
	:: is_new(6) || (is_old(6) && (may_be_old)) -> told = 6
	:: is_new(7) || (is_old(7) && (may_be_old)) -> told = 7
	:: is_new(8) || (is_old(8) && (may_be_old)) -> told = 8
	:: !storm && now > 8 && now >= me.revision -> told = now
	fi
}

inline hear()
{
	if
#if FAULT == 4
	:: told == me.revision && me.waits && me.give_up -> become_solo(); me.waits = 0
	:: told != me.revision -> follow(told)
#else
	:: told > me.revision || (FAULT == 3 && told < me.revision) -> follow(told)
#endif
	:: else
	fi
}

/* ---- the owner ---- */

inline sync(target)
{
	minted++;
	home[minted] = target + 1;
	alive = alive | (1 << minted);
	me.session = minted;
	copies[minted].begin = me.cut; copies[minted].last = me.cut;
	hosts[target].role = backs_up; hosts[target].id = minted; hosts[target].revision = me.revision;
	hosts[target].named = mode[me.revision] == protected && same(backup[me.revision], minted);
	printf("copy %d %d\n", minted, me.revision);
	printf("%d sync %d:", me.id, minted)
}

inline cut_epoch()
{
	me.cut++;
	printf("%d cut %d:", me.id, me.cut);
	copies[me.session].last = me.cut;
	copies[me.session].x_from = (me.x && !copies[me.session].x_from -> me.cut : copies[me.session].x_from)
}

inline shut_gate()
{
	me.gated = 1;
	me.gate_at = (FAULT == 6 -> me.cut : me.cut + 1);
	printf("%d gate: gate", me.id)
}

inline owner_gives_up()
{
	printf("%d given-up:", me.id);
	if
#if FAULT == 5
	:: me.gated && me.role == protected -> become_solo()
#elif FAULT == 16
	:: me.gated && me.role == solo -> become_solo()
#endif
	:: me.gated && !(FAULT == 5 && me.role == protected) && !(FAULT == 16 && me.role == solo) -> me.give_up = 1
	:: !me.gated -> leave_copy()
	fi
}

inline hear_ack(n)
{
	printf("%d acked %d %d:", me.id, n, copies[n].said);
	if
	:: owns && me.session && (n == me.session || FAULT == 1) && copies[n].said > me.acked && copies[n].said <= me.cut ->
		me.acked = copies[n].said;
		if
		:: me.gated -> printf(" release"); leaves = acked_epochs
		:: else
		fi
	:: else
	fi
}

inline guest_puts_out()
{
	x_was = 1; me.x = 1; me.holds_x = 1;
	me.x_epoch = (me.cut > me.whole -> me.cut : me.whole) + 1;
	if
	:: is_open(me) || (FAULT == 2 && owns) -> leaves = all
	:: else
	fi;
	put_out();
	check()
}

inline switch_off()
{
	me.off_at = (me.cut > me.whole -> me.cut : me.whole) + 1;
	me.off = (FAULT != 15 || owns);
	printf("%d off %d:", me.id, me.off_at);
#if FAULT == 12
	end_vm()
#endif
}

/* To whom the record still counts on, and what is missing for it to put out everything. */
#define must_cut ((me.holds_x && me.x_epoch > me.cut) || me.cut < me.gate_at || (me.off && me.cut < me.off_at))

/* ---- a copy ---- */

#define next_epoch (me.whole -> me.whole + 1 : copies[me.id].begin + 1)

inline receive()
{
	printf("%d whole %d:", me.id, next_epoch);
	if
	:: me.role == backs_up && !me.prepared ->
		me.whole = next_epoch; copies[me.id].said = me.whole;
		printf(" ack")
	:: (me.role != backs_up || me.prepared) && FAULT == 7 && copies[me.id].said < copies[me.id].last ->
		copies[me.id].said++; printf(" ack")
	:: else
	fi
}

inline apply()
{
	printf("%d runs-held:", me.id);
	me.runs_held = 1;
	me.x = copy_has_x(me.id, me.whole);
#if FAULT == 8
	me.role = solo; me.holds_x = me.x; printf(" replay open"); leaves = all
#endif
}

inline fail_to_apply()
{
	crashes++; crashed = crashed | (1 << me.id);
	printf("%d apply-failed:", me.id);
	end_vm()
}

/* ---- both ---- */

inline crash()
{
	crashes++; crashed = crashed | (1 << me.id); alive = alive & ~(1 << me.id);
	printf("%d dies\n", me.id);
	clear(me)
}

inline start()
{
	begun++; minted++;
	went = (mode[now] == solo -> owner[now] : 0);
	home[minted] = _pid + 1; alive = alive | (1 << minted);
	me.role = starts; me.id = minted; me.revision = now;
#if FAULT == 10
	me.role = (mode[now] == stopped -> starts : mode[now]);
	leaves = (me.role == solo -> all : nothing);
#endif
	printf("%d start %d %d:", minted, now, went)
}

#define is_startable	(mode[now] == solo || (FAULT == 10 && mode[now] == protected))
#define is_somebody	(me.role != 0)
#define is_free(t)	(hosts[t].role == 0)
#define next_host	((_pid + 1) % HOSTS)
#define last_host	((_pid + HOSTS - 1) % HOSTS)
#define may_sync	(storm && me.role == solo && !me.session && minted < 1 + COPIES + begun)
#define tells_anew(n)	(me.session && copies[n].said > me.acked)
#define HEARS(n) \
	:: d_step { copies[n].said && ((owns && n == me.session && tells_anew(n) && (FAULT != 17 || majority)) || \
				       (owns && storm && FAULT == 1 && tells_anew(n)) || (me.role && storm && noise)) -> \
		told = n; hear_ack(told) }

active [HOSTS] proctype host()
{
end:	do
	:: atomic {
		if
	:: d_step { may_switch_off && trouble && guest_runs && !me.off_at -> switch_off() }

	/* owner */
	:: d_step { may_sync && is_free(next_host) -> sync(next_host) }
	:: d_step { HOSTS > 2 && may_sync && is_free(last_host) -> sync(last_host) }
	:: d_step { storm && me.role == solo && me.session && !me.gated && !me.off_at -> shut_gate() }
	:: d_step { owns && me.session && (storm -> me.cut < EPOCHS : me.gated && lives(me.session) && must_cut) -> cut_epoch() }
	:: d_step { owns && me.session && !me.give_up && (trouble || (!storm && !lives(me.session))) -> owner_gives_up() }
	HEARS(2)
#if PROCESSES > 3
	HEARS(3)
#endif
#if PROCESSES > 4
	HEARS(4)
#endif
#if PROCESSES > 5
	HEARS(5)
#endif
	:: d_step { me.role == deposed && !me.take_back && (storm || (!storm && !lives(owner[me.revision]))) ->
		me.take_back = 1; printf("%d claimant-lost:", me.id) }

	/* copy */
	:: d_step { ((me.role == backs_up && !me.prepared) || (noise && storm && (me.role == backs_up || me.role == claims))) &&
		    next_epoch <= copies[me.id].last -> receive() }
#if FAULT == 7
	:: d_step { (me.role == claims || (me.role == backs_up && me.prepared)) && copies[me.id].said < copies[me.id].last ->
		receive() }
#endif
	:: d_step { me.role == backs_up && noise && storm ->
		printf("%d suspected:", me.id);
		if
		:: me.named && me.whole && !me.prepared -> printf(" prepare")
		:: else
		fi }
	:: d_step { me.role == backs_up && (me.named || FAULT == 11) && me.whole && !me.prepared &&
		    (storm || (!storm && !lives(owner[me.revision]))) ->
		me.named = 1; me.prepared = 1; printf("%d prepared:", me.id) }
	:: d_step { me.role == backs_up && (left >> me.id) & 1 && (!me.named || (noise && storm)) ->
		printf("%d given-up:", me.id);
		if
		:: !me.named -> me.role = has_ended; printf(" discard end")
		:: else
		fi }
	:: d_step { me.role == claims && !me.runs_held -> apply() }
	:: d_step { me.role == claims && !me.runs_held && trouble && crashes < CRASHES -> fail_to_apply() }

	/* all */
	:: has_answer && now >= me.revision ->
		choose_revision(now == me.revision || hears_old);
		d_step {
			if
			:: is_won(told) -> printf("%d won %d:", me.id, told)
			:: else -> printf("%d lost %d:", me.id, told)
			fi;
			me.want = 0; me.waits = 1;
			hear() }
	:: me.role && (now > me.revision || hears_old) ->
		choose_revision(hears_old);
		d_step { printf("%d read %d:", me.id, told); hear() }
	:: d_step { me.want && trouble -> me.want = 0; me.waits = 1; printf("%d unknown:", me.id) }
	:: d_step { me.waits && FAULT != 13 && majority -> me.waits = 0; printf("%d tick:", me.id) }
	:: d_step { trouble && begun < STARTS && me.role == 0 &&
		    (mode[now] == stopped || (is_startable && !lives(owner[now]) && home[owner[now]] == _pid + 1)) -> start() }
		fi;
		d_step { settle() } }
	:: d_step { storm && guest_runs && !me.off_at && !x_was -> guest_puts_out() }
	:: d_step { is_somebody && trouble && crashes < CRASHES -> crash() }
	od
}

/* ---- the arbiter ---- */

inline land(n, wish)
{
	now++;
	mode[now] = wish; owner[now] = n;
	backup[now] = (wish == protected -> their_session[n] : 0);
	x_over = x_over || (x_was && host_of(n).id == n && host_of(n).role == starts);
	x_out = x_out && !x_over;
	told = 0;
	do
	:: told < PROCESSES -> under_way[told] = 0; their_session[told] = 0; told++
	:: else -> break
	od;
	printf("record %d %e %d %d\n", now, wish, n, backup[now]);
	check()
}

#define may_land	(majority && now < (storm -> REVISIONS : NUMBERS - 1))
#define LANDS(n) \
	:: d_step { may_land && under_way[n] & 1 -> land(n, solo) } \
	:: d_step { may_land && under_way[n] & 2 -> land(n, claimed) } \
	:: d_step { may_land && under_way[n] & 4 -> land(n, protected) } \
	:: d_step { may_land && under_way[n] & 8 -> land(n, stopped) }

active proctype arbiter()
{
	d_step {
		mode[1] = solo; owner[1] = 1; home[1] = 1;
		hosts[0].role = solo; hosts[0].id = 1; hosts[0].revision = 1
	};
end:	do
	LANDS(1) LANDS(2)
#if PROCESSES > 3
	LANDS(3)
#endif
#if PROCESSES > 4
	LANDS(4)
#endif
#if PROCESSES > 5
	LANDS(5)
#endif
	od
}

/* ---- the peace ---- */

#define owner_now	host_of(owner[now])
#define backup_now	host_of(backup[now])
#define somebody_can	(lives(owner[now]) || (mode[now] == protected && lives(backup[now])) || (mode[now] == claimed && lives(from(now))))
#define is_run		(lives(owner[now]) && (owner_now.role == solo || owner_now.role == protected) && owner_now.revision == now)
#define is_served	(is_run && !owner_now.holds_x && !owner_now.off_at)
/* Without an arbiter: a pair that is whole, or an owner that never needed it. */
#define carries_on	(is_run && !owner_now.off_at && !owner_now.give_up && \
			 (!owner_now.gated || (lives(owner_now.session) && host_of(owner_now.session).role == backs_up && \
					       !host_of(owner_now.session).prepared)))

#ifdef PEACE
active proctype peace()
{
progress_until_peace:
	if
	:: atomic { now && owner[1] -> storm = false }
	:: atomic { now && owner[1] -> storm = false; majority = false }
	fi;
	timeout;
	assert(!majority || mode[now] == stopped || !somebody_can || is_served);
	assert(majority || !carries_on || is_served)
}
#endif
