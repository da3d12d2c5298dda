//! Tables of steps for the [machine](super::super::machine).

use std::{sync::Arc, time::Duration};

use super::super::{
    machine::{Ask, Change, Decision, Machine, Outcome, WaitFor, Why},
    path_class::PathClass,
    saved,
    skew::SkewVerdict,
};
use crate::{
    clock::Timestamp,
    passticket::{Applid, UserId},
};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn applid(name: &str) -> Applid {
    Applid::new(name).unwrap()
}

struct World {
    machine: Machine,
    now: Timestamp,
    limit: u8,
    open: Vec<(String, u64)>,
}

impl World {
    fn new() -> Self {
        Self::with_limit(1)
    }

    fn with_limit(limit: u8) -> Self {
        let now = Timestamp::from_secs(1_700_000_000);
        Self { machine: Machine::default(), now, limit, open: Vec::new() }
    }

    fn wait(&mut self, secs: u64) {
        self.now = self.now.plus(Duration::from_secs(secs));
    }

    /// `ticket` is `USER APPLID PATHS`, such as `A X 1`. `PATHS!` means that the paths are proven.
    fn with<T>(
        &mut self,
        ticket: &str,
        run: impl FnOnce(&mut Machine, &Ask<'_>, Timestamp) -> T,
    ) -> T {
        let mut parts = ticket.split(' ');
        let [name, appl, class] = [(); 3].map(|()| parts.next().unwrap());
        let is_proven = class.ends_with('!');
        let class = PathClass::from_bits(class.trim_end_matches('!').parse().unwrap());
        let key = Arc::from(appl);
        let ask = Ask {
            user: user(name),
            applid: applid(appl),
            key: &key,
            class,
            limit: self.limit,
            is_proven,
        };
        run(&mut self.machine, &ask, self.now)
    }

    /// Asks for a ticket. Returns a word for the decision.
    fn ask(&mut self, ticket: &str) -> &'static str {
        let decision = self.with(ticket, |machine, ask, now| machine.ask(ask, now));
        match decision {
            Decision::Send(id) => {
                self.open.push((ticket.to_owned(), id));
                "send"
            }
            Decision::SendProven => "proven",
            Decision::Wait(WaitFor::User) => "wait",
            Decision::Wait(WaitFor::Applid) => "wait for others",
            Decision::Stopped(stopped) => match (stopped.why, stopped.until) {
                (Why::User, Some(_)) => "user",
                (Why::User, None) => "user for good",
                (Why::Applid, _) => "applid",
                (Why::Doubt, _) => "doubt",
                (Why::Paths, _) => "paths",
                (Why::Clock, _) => "clock",
                (Why::Full, _) => "full",
                (Why::NoAnswers, _) => "no answers",
            },
        }
    }

    fn answer(&mut self, ticket: &str, outcome: Outcome) -> Vec<Change> {
        let at = self.open.iter().position(|(open, _)| open == ticket);
        let id = at.map(|at| self.open.remove(at).1);
        self.with(ticket, |machine, ask, now| machine.settle(ask, id, outcome, now))
    }

    fn refuse(&mut self, ticket: &str) -> Vec<Change> {
        assert_eq!(self.ask(ticket), "send", "{ticket}");
        self.answer(ticket, Outcome::Refused)
    }

    fn accept(&mut self, ticket: &str) -> Vec<Change> {
        assert_eq!(self.ask(ticket), "send", "{ticket}");
        self.answer(ticket, Outcome::Accepted)
    }
}

#[test]
fn one_ticket_of_a_user_is_sent_until_its_answer_is_known() {
    for limit in [1, 2] {
        let mut world = World::with_limit(limit);
        let sent = (0..30).filter(|_| world.ask("A X 1") == "send").count();
        assert_eq!(sent, usize::from(limit));
        assert_eq!(world.ask("A X 2"), "wait");
        for _ in 0..limit {
            world.answer("A X 1", Outcome::Refused);
        }
        assert!(world.ask("A X 1").starts_with("user"));
    }
}

#[test]
fn a_refusal_stops_the_user_and_the_pause_grows() {
    let mut world = World::new();
    let changes = world.refuse("A X 1");
    let (user, applid) = (user("A"), applid("X"));
    assert_eq!(changes, [Change::UserStopped { user, applid, refused: 1 }]);
    world.wait(59);
    assert_eq!(world.ask("A X 1"), "user");
    // Tickets of other users, and of the same user for other APPLIDs, are still sent.
    assert_eq!(world.ask("B X 1"), "send");
    assert_eq!(world.ask("A Y 1"), "send");
    world.answer("A Y 1", Outcome::Accepted);
    world.answer("B X 1", Outcome::Accepted);
    world.wait(1);
    assert_eq!(world.ask("A X 1"), "send");
    assert_eq!(world.ask("A X 1"), "wait");
    world.answer("A X 1", Outcome::Refused);
    // The third wrong password may revoke the user, so there is no third one.
    world.wait(1_000_000);
    assert_eq!(world.ask("A X 1"), "user for good");
}

#[test]
fn two_refusals_at_different_applids_stop_a_user_at_all_applids() {
    let mut world = World::new();
    world.refuse("A X 1");
    world.refuse("A Y 1");
    world.wait(100_000);
    for ticket in ["A X 1", "A Y 1", "A Z 1"] {
        assert_eq!(world.ask(ticket), "user for good", "{ticket}");
    }
    // The key of this APPLID is right, because another user has just used it.
    world.accept("B Z 1");
    assert_eq!(world.ask("A Z 1"), "send");
}

#[test]
fn a_success_on_the_same_paths_resets_the_user() {
    let mut world = World::new();
    world.refuse("A X 1");
    world.wait(60);
    let changes = world.accept("A X 1");
    assert!(matches!(changes[..], [Change::UserResumed { .. }]), "{changes:?}");
    world.refuse("A X 1");
    world.wait(60);
    assert_eq!(world.ask("A X 1"), "send");
}

#[test]
fn a_success_on_other_paths_permits_tickets_but_does_not_reset_the_count() {
    let mut world = World::new();
    world.refuse("A X 1");
    world.wait(60);
    // The paths of class 2 may need no ticket, so a success on them does not show that the key is right.
    world.accept("A X 2");
    assert_eq!(world.ask("A X 3"), "send");
    world.answer("A X 3", Outcome::Accepted);
    world.refuse("A X 1");
    world.wait(100_000);
    assert_eq!(world.ask("A X 1"), "user for good");
    assert_eq!(world.ask("A X 4"), "user for good");
    assert_eq!(world.ask("A X 2!"), "proven");
}

#[test]
fn a_success_of_another_user_on_the_same_paths_does_not_resume_a_stopped_user() {
    let mut world = World::new();
    world.refuse("A X 1");
    world.wait(60);
    world.refuse("A X 1");
    assert_eq!(world.ask("A X 1"), "user for good");
    world.accept("B X 1");
    // The user A has had no success since the refusals.
    assert_eq!(world.ask("A X 1"), "user for good");
    world.answer("A X 2", Outcome::Accepted);
    assert_eq!(world.ask("A X 1"), "send");
}

#[test]
fn refusals_of_three_users_in_a_row_stop_the_applid() {
    let mut world = World::new();
    for (name, is_stopped) in [("A", false), ("B", false), ("C", true)] {
        let changes = world.refuse(&format!("{name} X 1"));
        let whole = |it: &Change| matches!(it, Change::KeyStopped { whole: true, .. });
        assert_eq!(changes.iter().any(whole), is_stopped, "{name}");
    }
    assert_eq!(world.ask("D X 2"), "applid");
    assert_eq!(world.ask("D Y 1"), "send");
    world.answer("D Y 1", Outcome::Accepted);
    world.wait(60);
    assert_eq!(world.ask("D X 2"), "send");
    assert_eq!(world.ask("E X 2"), "applid");
    world.answer("D X 2", Outcome::Refused);
    world.wait(60);
    assert_eq!(world.ask("E X 1"), "applid");
    world.wait(60);
    let changes = world.accept("E X 1");
    assert!(changes.iter().any(|it| matches!(it, Change::KeyResumed { .. })), "{changes:?}");
    assert_eq!(world.ask("F X 1"), "send");
}

#[test]
fn not_more_than_three_users_are_tried_at_the_same_time() {
    let mut world = World::new();
    for (name, want) in
        [("A", "send"), ("B", "send"), ("C", "send"), ("D", "wait for others"), ("A", "wait")]
    {
        assert_eq!(world.ask(&format!("{name} X 1")), want, "{name}");
    }
    world.answer("A X 1", Outcome::Refused);
    assert_eq!(world.ask("D X 1"), "wait for others");
    world.answer("B X 1", Outcome::Refused);
    world.answer("C X 1", Outcome::Refused);
    assert_eq!(world.ask("D X 1"), "applid");
    // Slow answers block other users for a few seconds only.
    let mut world = World::new();
    for name in ["A", "B", "C"] {
        assert_eq!(world.ask(&format!("{name} X 1")), "send");
    }
    world.wait(4);
    assert_eq!(world.ask("D X 1"), "send");
    assert_eq!(world.ask("A X 1"), "wait");
    world.wait(6);
    assert_eq!(world.ask("A X 1"), "send");
    // After a success, the key is known to be right, so further users need not wait.
    let mut world = World::new();
    world.accept("A X 1");
    for name in ["B", "C", "D", "E", "F"] {
        assert_eq!(world.ask(&format!("{name} X 1")), "send");
    }
}

#[test]
fn at_most_two_tickets_of_a_user_wait_for_slow_answers_until_the_key_is_right() {
    let mut world = World::new();
    for want in ["send", "send", "wait", "wait"] {
        assert_eq!(world.ask("A X 1"), want);
        world.wait(10);
    }
    world.answer("A X 1", Outcome::Refused);
    assert_eq!(world.ask("A X 1"), "user");
    // The service may also refuse the other ticket, which would be the second refusal.
    world.wait(60);
    assert_eq!(world.ask("A X 1"), "wait");
    world.answer("A X 1", Outcome::Refused);
    assert_eq!(world.ask("A X 1"), "user for good");
    // After a success of another user, the key is known to be right. So the answers are only slow.
    let mut world = World::new();
    world.accept("B X 1");
    for _ in 0..4 {
        assert_eq!(world.ask("A X 1"), "send");
        world.wait(10);
    }
}

#[test]
fn users_who_always_get_401_on_one_path_stop_only_these_paths_for_others() {
    let mut world = World::new();
    world.accept("Z X 1");
    for name in ["A", "B", "C"] {
        world.refuse(&format!("{name} X 666"));
        world.accept("Z X 2");
    }
    assert_eq!(world.ask("D X 666"), "paths");
    assert_eq!(world.ask("D X 1"), "send");
    assert_eq!(world.ask("Z X 1"), "send");
}

#[test]
fn tickets_without_an_answer_slow_a_user_down_but_stop_nobody() {
    let mut world = World::new();
    for (pause, want) in
        [(0, "send"), (0, "send"), (0, "no answers"), (5, "send"), (5, "no answers"), (5, "send")]
    {
        world.wait(pause);
        assert_eq!(world.ask("A X 1"), want);
        if want == "send" {
            world.answer("A X 1", Outcome::Unknown);
        }
    }
    assert_eq!(world.ask("B X 1"), "send");
    world.answer("B X 1", Outcome::Accepted);
    // The key is now known to be right. So tickets without an answer stop nothing.
    assert_eq!(world.ask("A X 1"), "send");
    let mut world = World::new();
    for _ in 0..10 {
        assert_eq!(world.ask("A X 1"), "send");
        world.answer("A X 1", Outcome::NotSent);
    }
}

#[test]
fn a_ticket_that_was_tried_without_an_answer_begins_another_pause() {
    let mut world = World::new();
    world.refuse("A X 1");
    world.wait(60);
    assert_eq!(world.ask("A X 1"), "send");
    world.answer("A X 1", Outcome::Unknown);
    assert_eq!(world.ask("A X 1"), "user");
    world.wait(120);
    assert_eq!(world.ask("A X 1"), "send");
}

#[test]
fn an_administrator_resumes_a_user_an_applid_or_everything() {
    let stopped = || {
        let mut world = World::new();
        for name in ["A", "B", "C"] {
            world.refuse(&format!("{name} X 1"));
        }
        world.refuse("A Y 1");
        world
    };
    for (of_applid, of_user, want) in [
        (None, None, ["send", "send", "send"]),
        (Some("X"), None, ["send", "user", "send"]),
        (Some("Y"), None, ["applid", "send", "applid"]),
        (Some("X"), Some("A"), ["applid", "user", "applid"]),
        (None, Some("A"), ["applid", "send", "applid"]),
    ] {
        let mut world = stopped();
        world.machine.resume(of_applid.map(applid), of_user.map(user));
        let got = ["A X 1", "A Y 1", "B X 1"].map(|ticket| world.ask(ticket));
        assert_eq!(got, want, "{of_applid:?} {of_user:?}");
    }
}

#[test]
fn another_key_resumes_its_users_only() {
    let mut world = World::new();
    for name in ["A", "B", "C"] {
        world.refuse(&format!("{name} X 1"));
    }
    let key: Arc<str> = Arc::from("X");
    world.machine.key_changed(&key, applid("X"), |it| *it != user("B"));
    assert_eq!(world.ask("A X 1"), "send");
    assert_eq!(world.ask("B X 1"), "user");
}

#[test]
fn a_clock_that_differs_twice_stops_tickets_until_it_agrees() {
    let mut world = World::new();
    let key: Arc<str> = Arc::from("X");
    let compare = |world: &mut World, secs, verdict| {
        world.machine.compare(&key, applid("X"), secs, verdict, world.now)
    };
    use SkewVerdict::{Agree, Stop, Warn};
    // One answer may be old, so one comparison alone changes nothing.
    assert_eq!(compare(&mut world, 300, Stop), None);
    assert_eq!(compare(&mut world, 0, Agree), None);
    assert_eq!(compare(&mut world, 150, Warn), None);
    assert!(matches!(compare(&mut world, 150, Warn), Some(Change::ClockWarning { secs: 150, .. })));
    assert_eq!(compare(&mut world, 150, Warn), None);
    assert_eq!(world.ask("A X 1"), "send");
    world.answer("A X 1", Outcome::Accepted);
    assert_eq!(compare(&mut world, -400, Stop), None);
    assert!(matches!(compare(&mut world, -400, Stop), Some(Change::ClockStopped { .. })));
    assert_eq!(world.ask("A X 1!"), "clock");
    assert_eq!(world.ask("A Y 1"), "send");
    world.answer("A Y 1", Outcome::Accepted);
    // One ticket in a minute is tried, so that the clock is compared again.
    world.wait(60);
    assert_eq!(world.ask("A X 1"), "send");
    assert_eq!(world.ask("B X 1"), "clock");
    world.answer("A X 1", Outcome::Accepted);
    assert_eq!(world.ask("A X 1"), "clock");
    assert!(matches!(compare(&mut world, 1, Agree), Some(Change::ClockAgrees { .. })));
    assert_eq!(world.ask("A X 1"), "send");
}

#[test]
fn refusals_of_other_nodes_count_until_these_nodes_forget_them() {
    let mut world = World::new();
    world.with("A X 1", |machine, ask, now| machine.learn(ask, 1, now, now));
    assert_eq!(world.ask("A X 1"), "user");
    world.with("A X 1", |machine, ask, now| machine.learn(ask, 2, now, now));
    world.wait(100_000);
    assert_eq!(world.ask("A X 1"), "user for good");
    // A refusal that only this node knows stays.
    world.refuse("B X 1");
    world.machine.keep_shared(|_, _| false, world.now);
    assert_eq!(world.ask("A X 1"), "send");
    assert_eq!(world.ask("B X 1"), "user");
}

#[test]
fn old_refusals_of_other_nodes_stop_their_users_only() {
    let mut world = World::new();
    let last = world.now;
    world.wait(3600);
    for name in ["A", "B", "C", "D", "E"] {
        world.with(&format!("{name} X 1"), |machine, ask, now| machine.learn(ask, 1, last, now));
    }
    assert_eq!(world.ask("A X 1"), "user");
    assert_eq!(world.ask("Z X 1"), "send");
    // Refusals of the last minute may come from a wrong key, so they count for the key.
    let mut world = World::new();
    for name in ["A", "B", "C"] {
        world.with(&format!("{name} X 1"), |machine, ask, now| machine.learn(ask, 1, now, now));
    }
    assert_eq!(world.ask("Z X 1"), "applid");
}

#[test]
fn a_stop_ends_if_other_nodes_forget_their_refusals_but_own_refusals_stay() {
    let mut world = World::new();
    for name in ["A", "B", "C"] {
        world.with(&format!("{name} X 1"), |machine, ask, now| machine.learn(ask, 1, now, now));
    }
    world.wait(10);
    let changes = world.machine.keep_shared(|it, _| *it != user("A"), world.now);
    assert!(changes.iter().any(|it| matches!(it, Change::KeyResumed { .. })), "{changes:?}");
    assert_eq!(world.ask("Z X 1"), "send");
    // In this world, the node itself has seen the refusals of A, B and C. So the stop of their paths stays.
    let mut world = World::new();
    world.accept("Z X 2");
    for name in ["A", "B", "C"] {
        world.refuse(&format!("{name} X 1"));
        world.accept("Z X 2");
    }
    world.with("D X 3", |machine, ask, now| machine.learn(ask, 1, now, now));
    world.wait(10);
    world.machine.keep_shared(|_, _| false, world.now);
    assert_eq!(world.ask("Z X 1"), "paths");
}

#[test]
fn after_a_refusal_an_earlier_success_does_not_prove_the_key() {
    let mut world = World::new();
    world.accept("A X 1");
    world.refuse("A X 2");
    for (name, want) in [("B", "send"), ("C", "send"), ("D", "wait for others")] {
        assert_eq!(world.ask(&format!("{name} X 1")), want, "{name}");
    }
    world.answer("B X 1", Outcome::Unknown);
    assert_eq!(world.ask("B X 1"), "send");
    world.answer("B X 1", Outcome::Unknown);
    assert_eq!(world.ask("B X 1"), "no answers");
    world.answer("C X 1", Outcome::Accepted);
    assert_eq!(world.ask("B X 1"), "send");
}

#[test]
fn the_saved_state_has_the_same_stops() {
    let mut world = World::new();
    for name in ["A", "B", "C"] {
        world.refuse(&format!("{name} X 1"));
    }
    world.refuse("D Y 1");
    let text = saved::to_text(&world.machine);
    world.machine = saved::from_text(&text).unwrap();
    assert_eq!(saved::to_text(&world.machine).len(), text.len());
    for (ticket, want) in
        [("E X 1", "applid"), ("A X 1", "applid"), ("D Y 1", "user"), ("E Y 1", "send")]
    {
        assert_eq!(world.ask(ticket), want, "{ticket}");
    }
    world.wait(60);
    assert_eq!(world.ask("A X 1"), "send");
}

#[test]
fn a_clock_that_was_set_back_does_not_make_a_pause_longer() {
    let mut world = World::new();
    world.refuse("A X 1");
    world.now = Timestamp::from_secs(1_600_000_000);
    assert_eq!(world.ask("A X 1"), "user");
    world.wait(3600);
    assert_eq!(world.ask("A X 1"), "send");
}

#[test]
fn the_number_of_records_is_limited() {
    let mut world = World::new();
    world.accept("Z X 1");
    let names = (0..10_000).map(|number| format!("U{number}"));
    for name in names {
        world.refuse(&format!("{name} X 1"));
        // Without a success of another user in between, the refusals of three users would stop the APPLID.
        let _ = world
            .with("Z X 1", |machine, ask, now| machine.settle(ask, None, Outcome::Accepted, now));
    }
    assert_eq!(world.ask("NEW X 1"), "full");
    assert_eq!(world.ask("NEW X 1!"), "proven");
    world.machine.resume(None, None);
    assert_eq!(world.ask("NEW X 1"), "send");
}
