//! Describes the protocol as states and steps.
//!
//! The crate `tower-passticket` explains the terms lease, image, log and term in `src/cluster/coordinator.rs`, and
//! barrier in `src/cluster/barrier.rs`.
//!
//! # What the model contains
//! - Nodes. Each node has its file, its session with a server, its lease, and the leases of the other nodes that it has
//!   seen.
//! - Servers, each with the image, the log, the leases and the term. The current server may lose data. A stale or empty
//!   replica may replace it. Then some nodes may still use the old server.
//! - Requests and replies that are late or lost. If a reply is lost, the request has already changed the server. In the
//!   model, time can pass before any step of a node. So the model contains all cases in which a node is slow, paused or
//!   cut off. Only [`Rule::UnionsArePrompt`] limits this time.
//! - Time in ticks. All clocks have the same speed. The clocks of real machines (`CLOCK_BOOTTIME`) differ slightly in
//!   speed. So the program adds a margin, which the model does not need.
//!
//! # What the model does not contain
//! - Evictions and salts of revocations, and revocation rules with the current time (`RuleOfNow`).
//! - A machine whose clock stops while it is paused.
//! - More than one process with the name of a node.

use crate::checker::Model;

const NODES: usize = 3;

const REVOCATIONS: usize = 2;

/// A rule of the protocol, or an assumption about servers and nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A lease begins when the node sends the renewal, and not when the reply arrives.
    LeaseRunsFromSending,
    /// A node uses a lease only after it has applied the log up to the position in the reply.
    LeaseNeedsAppliedLog,
    /// In the first lease time after a node has seen a new term, the node confirms no revocation.
    BarrierWaitsInNewTerm,
    /// After a change of the term, a node publishes all its revocations. This is a *union*.
    Union,
    /// A node that has no lease when it joins a new term waits for the unions of the other nodes.
    WaitForUnionOfOthers,
    /// A node first needs a lease in a term. Only then does it write to its file that it follows this term. So if a
    /// node is killed while it waits, it waits again after its restart.
    WaitSurvivesRestart,
    /// A barrier waits for each node. If the lease of a node has not changed for a lease time, the node counts as dead,
    /// and the barrier no longer waits for it.
    DeadNodesAreWaitedFor,
    /// A barrier uses a list of leases only if the server that returns it can still write. A replaced server answers
    /// reads, but its list lacks the nodes that use the new server.
    BarrierAsksWriter,
    /// Assumption: a replaced server accepts no writes (`min-replicas-to-write`).
    OldServerRefusesWrites,
    /// Assumption: after a loss of data, no tick passes before each confirmed revocation is again on the current
    /// server, or at a node that follows the log of this server.
    UnionsArePrompt,
}

/// The size of the model.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The number of nodes.
    pub nodes: usize,
    /// The number of revocations.
    pub revocations: u8,
    /// The duration of a lease, in ticks.
    pub lease: u8,
    /// The maximum number of losses of data: the current server loses data, or a replica replaces it.
    pub losses: u8,
    /// Whether a replica may replace the server.
    pub has_replica: bool,
    /// The maximum number of crashes: a node is killed and started again.
    pub crashes: u8,
    /// The maximum number of ticks. `None` means no maximum.
    pub ticks: Option<u8>,
    /// The rule that the model does not apply.
    pub broken: Option<Rule>,
}

impl Cluster {
    fn applies(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.nodes).filter(move |other| *other != node)
    }
}

/// A set of revocations: one bit for each.
type Set = u8;

/// The state of nodes and servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: [Node; NODES],
    servers: [Option<Server>; 2],
    /// The server with the current data.
    current: u8,
    /// The number of terms so far.
    terms: u8,
    writes: [Write; REVOCATIONS],
    crashes: u8,
    losses: u8,
    ticks: u8,
}

/// The state of a client's revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Write {
    /// The client has not sent the revocation.
    None,
    /// The node has stored the revocation.
    Stored { node: u8 },
    /// The node has published the revocation in its current term.
    Published { node: u8, position: u8 },
    /// The client has received the answer that the revocation applies at all nodes.
    Success,
    /// The node was killed, so the client gets no answer.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    /// The revocations in the file.
    known: Set,
    /// How long the node may still accept tokens.
    lease: u8,
    session: Option<Session>,
    /// The reply to the last renewal, until the node uses it.
    reply: Option<Reply>,
    /// The last term in which the node had a lease, as in the file of the node.
    followed: u8,
    /// For each other node, the state of its lease as this node has seen it.
    seen: [Seen; NODES],
}

/// The session of a node with one server in one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Session {
    server: u8,
    term: u8,
    phase: Phase,
    /// The time since the node joined the term in this session, up to the largest value that has an effect.
    term_age: u8,
    /// Whether the node waits for the unions of other nodes before it uses a lease.
    waits: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// The node publishes all its revocations, and reads the image. Then it follows the log from `last`.
    Union {
        last: u8,
    },
    Follow {
        applied: u8,
    },
}

impl Session {
    fn applied(&self) -> Option<u8> {
        match self.phase {
            Phase::Follow { applied } => Some(applied),
            Phase::Union { .. } => None,
        }
    }
}

/// The reply to a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reply {
    /// The time since the request was sent. In the model, the server stores the lease at that time. The lease of the
    /// node begins at that time, even if a real server stores it later. So the model needs no case in which the server
    /// stores it later.
    age: u8,
    last: u8,
    /// Whether the server has a lease of another node, and that node has not yet read the image.
    others_are_joining: bool,
}

/// The lease of another node, as a node has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Seen {
    /// The node has never seen the lease, or the lease has changed since the node last read it.
    Changed,
    /// The lease has not changed for this time.
    Same { age: u8 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Server {
    term: u8,
    can_write: bool,
    image: Set,
    /// The revocations in the order of the log.
    log: [u8; REVOCATIONS],
    len: u8,
    leases: [LeaseRecord; NODES],
}

/// The lease of a node on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LeaseRecord {
    None,
    Stored { applied: Option<u8> },
}

impl Server {
    fn new(term: u8, image: Set) -> Self {
        Self {
            term,
            can_write: true,
            image,
            log: [0; REVOCATIONS],
            len: 0,
            leases: [LeaseRecord::None; NODES],
        }
    }

    fn publish(&mut self, set: Set) {
        for revocation in 0..REVOCATIONS as u8 {
            if set & !self.image & 1 << revocation != 0 {
                self.image |= 1 << revocation;
                self.log[usize::from(self.len)] = revocation;
                self.len += 1;
            }
        }
    }
}

/// A step of the protocol, of a client or of the environment.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// One tick of time passes.
    Tick,
    /// A client revokes a token at a node.
    Store {
        /// The node.
        node: u8,
        /// The revocation.
        revocation: u8,
    },
    /// The node connects to the server and joins its term.
    Join {
        /// The node.
        node: u8,
        /// The server.
        server: u8,
    },
    /// The node publishes all its revocations, and reads the image.
    Unite(u8),
    /// The node applies the next entry of the log.
    Follow(u8),
    /// The node publishes a revocation. If `is_answered` is false, it does not get the answer.
    Publish {
        /// The revocation.
        revocation: u8,
        /// Whether the answer arrives.
        is_answered: bool,
    },
    /// The node sends a renewal, and the server stores the lease. If an earlier reply has not arrived yet, it is lost.
    Renew(u8),
    /// The node gets the reply to its renewal and uses it. Before, it must have applied the log up to the position in
    /// the reply ([`Rule::LeaseNeedsAppliedLog`]).
    UseReply(u8),
    /// A node whose client waits for an answer reads the leases. If the barrier is over, the node answers the client.
    ReadLeases(u8),
    /// The node is killed and started again.
    Crash(u8),
    /// The current server loses all data except `image`, for example because of FLUSHALL or a restart.
    LoseData {
        /// The revocations that remain.
        image: u8,
    },
    /// A replica with these revocations replaces the current server.
    FailOver {
        /// The revocations that the replica has.
        image: u8,
    },
}

impl State {
    fn node(&mut self, node: u8) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    /// Returns the session of a node and its server, if the server is in the term of the session.
    fn connected(&self, node: u8) -> Option<(Session, Server)> {
        let session = self.nodes[usize::from(node)].session?;
        let server = self.servers[usize::from(session.server)]?;
        (server.term == session.term).then_some((session, server))
    }

    fn server(&mut self, node: u8) -> &mut Server {
        let server = self.nodes[usize::from(node)].session.map_or(0, |session| session.server);
        self.servers[usize::from(server)].as_mut().expect("a session has a server")
    }

    /// Ends the session of a node, because the node joins a term or is killed. Drops the reply to its renewal, and the
    /// positions of its published revocations.
    fn leave_term(&mut self, node: u8) {
        for write in &mut self.writes {
            if let Write::Published { node: of, .. } = *write
                && of == node
            {
                *write = Write::Stored { node };
            }
        }
        let node = self.node(node);
        (node.session, node.reply) = (None, None);
        node.seen = [Seen::Changed; NODES];
    }

    /// Returns whether each confirmed revocation is on the current server, or known to a node that follows the log of
    /// this server.
    fn has_united(&self) -> bool {
        let Some(server) = self.servers[usize::from(self.current)] else { return false };
        let joined = self.nodes.iter().filter(|node| {
            node.session.is_some_and(|session| {
                session.server == self.current
                    && session.term == server.term
                    && session.applied().is_some()
            })
        });
        let present = joined.fold(server.image, |present, node| present | node.known);
        let mut writes = self.writes.iter().enumerate();
        writes.all(|(i, write)| *write != Write::Success || present & 1 << i != 0)
    }
}

impl Node {
    /// Returns whether the node may use the reply to its renewal.
    fn can_use_reply(&self, model: &Cluster) -> bool {
        let (Some(reply), Some(session)) = (self.reply, self.session) else { return false };
        let is_applied = session.applied().is_some_and(|applied| applied >= reply.last);
        let is_sent_late = session.term_age.saturating_sub(reply.age) >= model.lease;
        (is_applied || !model.applies(Rule::LeaseNeedsAppliedLog))
            && (!session.waits || (is_sent_late && !reply.others_are_joining))
    }

    fn use_reply(&mut self, model: &Cluster) {
        let Some(reply) = self.reply.take() else { return };
        if let Some(session) = &mut self.session {
            session.waits = false;
            self.followed = session.term;
        }
        let age = if model.applies(Rule::LeaseRunsFromSending) { reply.age } else { 0 };
        self.lease = self.lease.max(model.lease.saturating_sub(age));
    }
}

impl Model for Cluster {
    type State = State;
    type Step = Step;

    fn first(&self) -> State {
        let node = Node {
            known: 0,
            lease: 0,
            session: None,
            reply: None,
            followed: 0,
            seen: [Seen::Changed; NODES],
        };
        State {
            nodes: [node; NODES],
            servers: [Some(Server::new(1, 0)), None],
            current: 0,
            terms: 1,
            writes: [Write::None; REVOCATIONS],
            crashes: 0,
            losses: 0,
            ticks: 0,
        }
    }

    fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let is_needed = |write: &Write| *write != Write::Failed;
        if !state.writes[..usize::from(self.revocations)].iter().any(is_needed) {
            return;
        }
        let may_pass = state.has_united() || !self.applies(Rule::UnionsArePrompt);
        if self.ticks.is_none_or(|ticks| state.ticks < ticks) && may_pass {
            steps.push(Step::Tick);
        }
        let all = (1 << self.revocations) - 1;
        for revocation in 0..self.revocations {
            let write = state.writes[usize::from(revocation)];
            match write {
                Write::None => {
                    // All nodes are equal, so the model tries the first revocation only at the first node.
                    let nodes = if revocation == 0 { 1 } else { self.nodes as u8 };
                    steps.extend((0..nodes).map(|node| Step::Store { node, revocation }));
                }
                Write::Stored { node } => {
                    if state.connected(node).is_some_and(|(_, server)| server.can_write) {
                        for is_answered in [true, false] {
                            steps.push(Step::Publish { revocation, is_answered });
                        }
                    }
                }
                Write::Published { .. } | Write::Success | Write::Failed => {}
            }
        }
        for node in 0..self.nodes as u8 {
            let of_node = &state.nodes[usize::from(node)];
            for server in 0..2 {
                if let Some(of_server) = state.servers[usize::from(server)] {
                    let is_joined = !of_server.can_write
                        || of_node.session.is_some_and(|session| {
                            session.server == server && session.term == of_server.term
                        });
                    if !is_joined {
                        steps.push(Step::Join { node, server });
                    }
                }
            }
            if self.crashes > state.crashes {
                steps.push(Step::Crash(node));
            }
            if of_node.can_use_reply(self) {
                steps.push(Step::UseReply(node));
            }
            let Some((session, server)) = state.connected(node) else { continue };
            match session.phase {
                Phase::Union { .. } if server.can_write => steps.push(Step::Unite(node)),
                Phase::Follow { applied } if applied < server.len => steps.push(Step::Follow(node)),
                Phase::Union { .. } | Phase::Follow { .. } => {}
            }
            if server.can_write {
                steps.push(Step::Renew(node));
            }
            let waits = |write: &Write| match write {
                Write::Stored { node: of } | Write::Published { node: of, .. } => *of == node,
                Write::None | Write::Success | Write::Failed => false,
            };
            if state.writes.iter().any(waits) {
                steps.push(Step::ReadLeases(node));
            }
        }
        if state.losses < self.losses {
            let image_now = state.servers[usize::from(state.current)].map_or(0, |it| it.image);
            for image in (0..=all).filter(|image| image & !image_now == 0) {
                steps.push(Step::LoseData { image });
                if self.has_replica && state.current == 0 {
                    steps.push(Step::FailOver { image });
                }
            }
        }
    }

    fn after(&self, state: &State, step: Step) -> State {
        let mut state = state.clone();
        match step {
            Step::Tick => self.tick(&mut state),
            Step::Store { node, revocation } => {
                state.node(node).known |= 1 << revocation;
                state.writes[usize::from(revocation)] = Write::Stored { node };
            }
            Step::Join { node, server } => self.join(&mut state, node, server),
            Step::Unite(node) => {
                let known = state.node(node).known;
                let server = state.server(node);
                if self.applies(Rule::Union) {
                    server.publish(known);
                }
                let image = server.image;
                let of_node = state.node(node);
                of_node.known |= image;
                if let Some(Session { phase, term, .. }) = &mut of_node.session
                    && let Phase::Union { last } = *phase
                {
                    *phase = Phase::Follow { applied: last };
                    if !self.applies(Rule::WaitSurvivesRestart) {
                        of_node.followed = *term;
                    }
                }
            }
            Step::Follow(node) => {
                let log = state.server(node).log;
                let node = state.node(node);
                if let Some(Session { phase: Phase::Follow { applied }, .. }) = &mut node.session {
                    node.known |= 1 << log[usize::from(*applied)];
                    *applied += 1;
                }
            }
            Step::Publish { revocation, is_answered } => {
                if let Write::Stored { node } = state.writes[usize::from(revocation)] {
                    let server = state.server(node);
                    server.publish(1 << revocation);
                    let position = server.len;
                    if is_answered {
                        state.writes[usize::from(revocation)] = Write::Published { node, position };
                    }
                }
            }
            Step::Renew(node) => self.renew(&mut state, node),
            Step::UseReply(node) => state.node(node).use_reply(self),
            Step::ReadLeases(node) => self.read_leases(&mut state, node),
            Step::Crash(node) => {
                state.crashes += 1;
                state.leave_term(node);
                state.node(node).lease = 0;
                for write in &mut state.writes {
                    if *write == (Write::Stored { node }) {
                        *write = Write::Failed;
                    }
                }
            }
            Step::LoseData { image } => {
                (state.losses, state.terms) = (state.losses + 1, state.terms + 1);
                let server = Server::new(state.terms, image);
                state.servers[usize::from(state.current)] = Some(server);
            }
            Step::FailOver { image } => {
                (state.losses, state.terms) = (state.losses + 1, state.terms + 1);
                state.servers[1] = Some(Server::new(state.terms, image));
                state.current = 1;
                if let Some(old) = &mut state.servers[0] {
                    old.can_write = !self.applies(Rule::OldServerRefusesWrites);
                }
            }
        }
        state
    }

    fn problem(&self, state: &State) -> Option<String> {
        for revocation in 0..self.revocations {
            let is_confirmed = state.writes[usize::from(revocation)] == Write::Success;
            let accepts = |node: &usize| {
                let node = &state.nodes[*node];
                node.lease > 0 && node.known & 1 << revocation == 0
            };
            if let (true, Some(node)) = (is_confirmed, (0..self.nodes).find(accepts)) {
                return Some(format!("node {node} accepts a token after revocation {revocation}"));
            }
        }
        None
    }
}

impl Cluster {
    fn tick(&self, state: &mut State) {
        if self.ticks.is_some() {
            state.ticks += 1;
        }
        for node in &mut state.nodes {
            node.lease = node.lease.saturating_sub(1);
            if let Some(session) = &mut node.session {
                // Larger ages have no effect.
                let oldest = if session.waits { 2 * self.lease } else { self.lease };
                session.term_age = (session.term_age + 1).min(oldest);
            }
            if let Some(reply) = &mut node.reply {
                reply.age += 1;
                let is_useless =
                    reply.age >= self.lease && self.applies(Rule::LeaseRunsFromSending);
                if is_useless || reply.age > 2 * self.lease {
                    node.reply = None;
                }
            }
            for seen in &mut node.seen {
                if let Seen::Same { age } = seen {
                    *age = (*age + 1).min(self.lease);
                }
            }
        }
    }

    fn join(&self, state: &mut State, node: u8, server: u8) {
        let Some(Server { term, len, .. }) = state.servers[usize::from(server)] else { return };
        state.leave_term(node);
        let of_node = state.node(node);
        of_node.session = Some(Session {
            server,
            term,
            phase: Phase::Union { last: len },
            term_age: 0,
            waits: of_node.lease == 0
                && of_node.followed != term
                && self.applies(Rule::WaitForUnionOfOthers),
        });
        // A joining node cannot use a server that refuses writes. So the model drops such a server when no node uses it
        // any more.
        let is_used = state.nodes.iter().any(|it| it.session.is_some_and(|it| it.server == 0));
        if state.servers[0].is_some_and(|server| !server.can_write) && !is_used {
            state.servers[0] = None;
        }
    }

    fn renew(&self, state: &mut State, node: u8) {
        let applied = state.node(node).session.and_then(|session| session.applied());
        let server = state.server(node);
        server.leases[usize::from(node)] = LeaseRecord::Stored { applied };
        let is_joining =
            |other: usize| server.leases[other] == LeaseRecord::Stored { applied: None };
        let others_are_joining = self.others(usize::from(node)).any(is_joining);
        let reply = Reply { age: 0, last: server.len, others_are_joining };
        state.node(node).reply = Some(reply);
        // In the program, each renewal changes a number in the lease. The model has no such number. Instead, it marks
        // the lease as changed for each other node.
        for other in self.others(usize::from(node)) {
            state.nodes[other].seen[usize::from(node)] = Seen::Changed;
        }
    }

    fn read_leases(&self, state: &mut State, node: u8) {
        let Some((session, server)) = state.connected(node) else { return };
        if !server.can_write && self.applies(Rule::BarrierAsksWriter) {
            return;
        }
        let (number, mut is_over) = (usize::from(node), [true; REVOCATIONS]);
        for other in self.others(number) {
            let LeaseRecord::Stored { applied } = server.leases[other] else { continue };
            let seen = &mut state.nodes[number].seen[other];
            if *seen == Seen::Changed {
                *seen = Seen::Same { age: 0 };
            }
            let must_wait = self.applies(Rule::DeadNodesAreWaitedFor);
            let is_dead = match *seen {
                Seen::Changed => false,
                Seen::Same { age } => age >= self.lease || !must_wait,
            };
            for (write, is_over) in state.writes.iter().zip(&mut is_over) {
                if let Write::Published { position, .. } = write {
                    *is_over &= is_dead || applied.is_some_and(|applied| applied >= *position);
                }
            }
        }
        if session.term_age < self.lease && self.applies(Rule::BarrierWaitsInNewTerm) {
            return;
        }
        for (write, is_over) in state.writes.iter_mut().zip(is_over) {
            if matches!(write, Write::Published { node: of, .. } if *of == node && is_over) {
                *write = Write::Success;
            }
        }
    }
}
