//! A tunnel that orders: what it captures is put in the order of a space, beside being carried. What waits, and
//! what becomes of it, is the business of [`Publisher`]; here it is given to the space, whatever state that is in.

use crate::api::{ErrorBody, TunnelOrder};
use crate::folder::random;
use crate::space::{Ended, NotProposed, OBSERVES, Reply, Space, error};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use synod_core::apply::Outcome;
use synod_core::command::Command;
use synod_core::datagrams::{Captured, Counts, End, Endpoint, Publisher, label};
use synod_core::time::Time;
use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

/// How soon a space is tried again that does not take anything.
const AGAIN: Duration = Duration::from_millis(100);
/// How often what has waited for too long is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// A session that was not used for so long is looked for before it is used: others may have taken its place.
const UNUSED: Duration = Duration::from_secs(5);

/// For so long a space may be without a leader before it is said: an election takes less.
const LEADERLESS: Duration = Duration::from_secs(3);
/// How long a tunnel that is closed waits for what it has captured to be in order, and how often it looks.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// Finds a space of the node by its name; or says why it cannot be served.
pub(crate) type FindSpace = Arc<dyn Fn(&str) -> Result<Space, ErrorBody> + Send + Sync>;

/// The way of a tunnel's datagrams into a space.
pub(super) struct Ordering {
    space: String,
    started: Instant,
    publisher: Mutex<Publisher>,
    /// Something waits.
    woken: Notify,
    /// Why nothing is put in order, if nothing is.
    trouble: Mutex<Option<String>>,
}

/// Looks whether a tunnel may order into a space.
pub(super) fn check(find: &FindSpace, name: &str) -> Result<(), ErrorBody> {
    let space = find(name).map_err(|why| {
        let help = "`synod space create` or `join` makes one, and `synod space list` shows them";
        error(&why.code, format!("--order {name}: {}: {help}", why.message))
    })?;
    if space.follows().is_some() {
        return Err(error("observer", format!("--order {name}: {OBSERVES}")));
    }
    Ok(())
}

impl Ordering {
    pub(super) fn new(space: &str) -> Self {
        Self {
            space: space.to_owned(),
            started: Instant::now(),
            publisher: Mutex::default(),
            woken: Notify::new(),
            trouble: Mutex::default(),
        }
    }

    /// These were captured, in this order. Never waits.
    pub(super) fn offer(&self, to: SocketAddrV4, datagrams: Vec<(SocketAddrV4, Box<[u8]>)>) {
        let at = self.now();
        let mut publisher = self.publisher();
        for (from, bytes) in datagrams {
            let (to, from) = (endpoint(to), endpoint(from));
            publisher.offer(Captured { at, to, from, bytes });
        }
        drop(publisher);
        self.woken.notify_one();
    }

    /// What people are told.
    pub(super) fn info(&self) -> TunnelOrder {
        let publisher = self.publisher();
        let Counts { ordered, ordered_bytes, .. } = publisher.counts();
        TunnelOrder {
            space: self.space.clone(),
            datagrams: ordered,
            bytes: ordered_bytes,
            waiting: publisher.held() as u64,
            trouble: self.trouble().clone(),
        }
    }

    /// What was not put in order, by the reason's name.
    pub(super) fn drops(&self) -> impl Iterator<Item = (String, u64)> + use<> {
        let Counts { full, late, unknown, .. } = self.publisher().counts();
        let all = [("order_full", full), ("order_late", late), ("order_unknown", unknown)];
        all.into_iter().filter(|(_, n)| *n > 0).map(|(reason, n)| (reason.to_owned(), n))
    }

    /// What a person should look at.
    pub(super) fn warning(&self) -> Option<String> {
        let trouble = self.trouble().clone()?;
        let space = &self.space;
        Some(format!("what it captures is carried and not ordered into {space}: {trouble}"))
    }

    /// Blocks until what was captured is in order, if that does not take long.
    pub(super) fn drain(&self) {
        let until = Instant::now() + DRAIN;
        while self.publisher().held() > 0 && self.trouble().is_none() && Instant::now() < until {
            std::thread::sleep(DRAIN_STEP);
        }
    }

    /// Puts what is captured in order, for as long as the tunnel is there.
    pub(super) async fn run(self: Arc<Self>, tunnel: String, node: String, find: FindSpace) {
        let (reply, mut ends) = mpsc::unbounded_channel();
        let mut giving = Giving { tunnel, node, find, reply, session_of: None, nonce: None };
        let mut looked = Instant::now();
        loop {
            self.publisher().expire(self.now());
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look(&giving.find);
            }
            let is_due = self.publisher().is_due();
            let given = if is_due { self.give(&mut giving).await } else { Ok(true) };
            let is_hindered = given != Ok(true);
            given.err().into_iter().for_each(|why| self.set_trouble(why));
            let pause = if is_hindered { AGAIN } else { LOOK };
            tokio::select! {
                // What comes while nothing is taken waits with the others.
                () = self.woken.notified(), if !is_hindered => {}
                ended = ends.recv() => {
                    let more = std::iter::from_fn(|| ends.try_recv().ok());
                    for (seq, ended) in ended.into_iter().chain(more) {
                        let end = self.end_of(ended);
                        self.publisher().ended(seq, end);
                    }
                }
                () = sleep(pause) => {}
            }
        }
    }

    /// Says what is wrong before anything is captured, and no longer once it is right.
    fn look(&self, find: &FindSpace) {
        match served(find, &self.space).map(|space| space.leaderless_for()) {
            Ok(None) => drop(self.trouble().take()),
            Ok(Some(time)) if time >= LEADERLESS => {
                self.set_trouble(NotProposed::NoQuorum.to_string());
            }
            Ok(Some(_)) => {}
            Err(why) => self.set_trouble(why),
        }
    }

    /// Proposes what is due; false if others write so much that it has to wait for a moment. An error says why
    /// nothing is taken.
    async fn give(&self, giving: &mut Giving) -> Result<bool, String> {
        let space = served(&giving.find, &self.space)?;
        if giving.session_of.is_some_and(|(id, _)| id != space.id()) {
            // A space of the same name, and another.
            self.publisher().forget_session();
        }
        let (session, is_idle) = {
            let publisher = self.publisher();
            (publisher.session(), publisher.is_idle())
        };
        let is_old = giving.session_of.is_some_and(|(_, used)| used.elapsed() >= UNUSED);
        if let Some(session) = session.filter(|_| is_idle && is_old) {
            let is_open = space.look(move |state| state.session(session).is_some()).await;
            if is_open == Some(false) {
                self.publisher().forget_session();
            }
        }
        if self.publisher().session().is_none() {
            let session = giving.open(&space).await?;
            self.publisher().opened(session);
        }
        giving.session_of = Some((space.id(), Instant::now()));
        loop {
            // Encoded without the lock, which whoever captures wants.
            let Some(batch) = self.publisher().give() else { return Ok(true) };
            let command = batch.command(&giving.tunnel, &giving.node);
            let reply = Reply::Stream(giving.reply.clone(), batch.seq);
            if let Err(why) = space.propose(command, reply) {
                self.publisher().take_back(batch);
                return if why == NotProposed::Busy { Ok(false) } else { Err(why.to_string()) };
            }
        }
    }

    fn end_of(&self, ended: Option<Ended>) -> End {
        match ended {
            Some(Ended::Applied(outcome)) => {
                if let Outcome::Committed(_) = outcome {
                    self.trouble().take();
                }
                End::from(&outcome)
            }
            Some(Ended::NotProposed(why)) => {
                self.set_trouble(why.to_string());
                End::Not
            }
            None => End::Unknown,
        }
    }

    fn set_trouble(&self, why: String) {
        let mut trouble = self.trouble();
        if trouble.is_none() {
            tracing::warn!("a tunnel orders nothing into {}: {why}", self.space);
        }
        *trouble = Some(why);
    }

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What proposing needs.
struct Giving {
    tunnel: String,
    node: String,
    find: FindSpace,
    reply: mpsc::UnboundedSender<(u64, Option<Ended>)>,
    /// Which space the session is of, and when it was used last.
    session_of: Option<([u8; 32], Instant)>,
    /// Of an opening of which nobody knows what became: sent again, it opens the same session.
    nonce: Option<([u8; 32], [u8; 16])>,
}

impl Giving {
    async fn open(&mut self, space: &Space) -> Result<u64, String> {
        let nonce = match self.nonce.filter(|(id, _)| *id == space.id()) {
            Some((_, nonce)) => nonce,
            None => random().map_err(|e| format!("no random number for a session: {e}"))?,
        };
        self.nonce = Some((space.id(), nonce));
        let label = label(&self.tunnel);
        let opened = match space.commit(&Command::OpenSession { label, nonce }).await {
            Some(Ended::Applied(Outcome::Committed(session))) => Ok(session),
            Some(Ended::Applied(Outcome::Refused(_, why))) => Err(why.to_string()),
            Some(Ended::NotProposed(why)) => Err(why.to_string()),
            None => Err("nobody knows yet whether its session is open".to_owned()),
        };
        if opened.is_ok() {
            self.nonce = None;
        }
        opened
    }
}

/// The space, if commands may be proposed to it here.
fn served(find: &FindSpace, name: &str) -> Result<Space, String> {
    let space = find(name).map_err(|why| why.message)?;
    space.serves_writes().map_err(|why| why.to_string())?;
    Ok(space)
}

fn endpoint(of: SocketAddrV4) -> Endpoint {
    Endpoint { ip: of.ip().octets(), port: of.port() }
}
