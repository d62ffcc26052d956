//! What a client is told whose space does not serve on this node: by each reason, in each way in.

use super::*;
use crate::space::Standing;
use synod_core::term::Term;

const AGENT: &str = "shown";

/// A node with an agent that does not run: goals are given to it all the same.
async fn node(folder: &std::path::Path) -> Node {
    let config = || NodeConfig {
        data: folder.to_path_buf(),
        name: Some("alpha".to_owned()),
        min_free: 0,
        busy_poll: crate::space::BUSY_POLL,
        executable: "/nonexistent/engine".into(),
        net: NetConfig::default(),
        wants_net: false,
        monitor: None,
    };
    Node::start(config()).await.unwrap().shutdown().await;
    let kept = folder.join("agents").join(AGENT);
    std::fs::create_dir_all(&kept).unwrap();
    std::fs::write(kept.join("agent.json"), "no definition").unwrap();
    Node::start(config()).await.unwrap()
}

fn said(why: &str) -> Option<String> {
    Some(why.to_owned())
}

/// The code of what each way in says; `-` of one that is let in.
async fn codes(node: &Node) -> Vec<(&'static str, String)> {
    let code = |e: Option<ErrorBody>| e.map_or_else(|| "-".to_owned(), |e| e.code);
    let facts = async |local: bool| {
        let pattern = Term::structure("p", [Term::Var(0)]);
        let (space, limit, min_index) = (None, None, 0);
        let text = "p(X)".to_owned();
        let request = api::FactsRequest { pattern: text, space, limit, min_index, local };
        code(node.facts(request, pattern).await.err())
    };
    let solve = async |kind| {
        let goal = GoalRequest {
            goal: "true".to_owned(),
            agent: said(AGENT),
            space: None,
            limit: None,
            min_index: 0,
            as_of: None,
            once: None,
            step: None,
        };
        code(node.solve(kind, goal).await.err())
    };
    let event = || Bytes::from(Term::atom("e").encode().unwrap());
    let (told, _all_told) = mpsc::unbounded_channel();
    let draft = Draft { version: 0, reads: Vec::new(), ops: vec![Op::Emit { event: event() }] };
    let proposed = node.proposer(None).unwrap().propose(1, 1, 0, draft, &told);
    let read_index = match node.space(None).unwrap().read_index().await {
        Some(_) => "-".to_owned(),
        None => "none".to_owned(),
    };
    vec![
        ("facts", facts(false).await),
        ("local facts", facts(true).await),
        ("read index", read_index),
        ("query", solve(SolveKind::Query).await),
        ("transact", solve(SolveKind::Transact).await),
        ("broadcast", code(node.broadcast(None, event(), None).await.err())),
        ("propose", code(proposed.err().map(|why| not_proposed(&why)))),
        ("session", code(node.open_session(None, "test").await.err())),
        ("module", code(node.publish_module(None, "m", "p.").await.err())),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_says_why_the_space_does_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path()).await;
    let space = node.space(None).unwrap();
    let mut wrong = Vec::new();
    let writes = ["broadcast", "propose", "session", "module"];
    let (newest, all) = (["facts", "read index"], ["facts", "local facts", "read index"]);
    let goals = ["query", "transact"];
    let none = Standing::default;
    let cases: [(_, _, Vec<&str>); 6] = [
        (none(), "", Vec::new()),
        (Standing { removed: Some(3), ..none() }, "removed", [&newest[..], &writes].concat()),
        (
            Standing { shortened: said("short"), ..none() },
            "damaged",
            [&newest[..], &writes].concat(),
        ),
        (
            Standing { rebuilding: said("wrong"), ..none() },
            "rebuilding",
            [&all[..], &goals, &writes].concat(),
        ),
        (Standing { full: said("full"), ..none() }, "full", writes.to_vec()),
        // Last: what was said of a recovery is not taken back.
        (Standing { gone_on: Some(9), ..none() }, "recovered", [&newest[..], &writes].concat()),
    ];
    for (standing, code, stopped) in cases {
        space.hinder(standing);
        for (way, said) in codes(&node).await {
            let wanted = match way {
                "read index" if stopped.contains(&way) => "none",
                way if stopped.contains(&way) => code,
                // No engine can be started here, and nothing else stands in the way.
                "module" if code.is_empty() => "engine",
                _ => "-",
            };
            if said != wanted {
                wrong.push(format!("{code}: {way} says {said}, not {wanted}"));
            }
        }
        let read_only = space.info().await.unwrap().read_only;
        let ready = node.ready().await.ready;
        let (writes, reads) = (stopped.contains(&"propose"), stopped.contains(&"facts"));
        if (read_only.is_some(), ready) != (writes, !reads) {
            wrong.push(format!("{code}: shown as {read_only:?}, ready {ready}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    node.shutdown().await;
}
