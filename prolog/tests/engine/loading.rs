//! What is wrong with a program, and what is said of it.

use super::node::{Node, Options, term};
use synod_prolog::Death;
use synod_prolog::frame::*;

crate::tests! {
    all_syntax_errors_are_told_with_line_and_column
    operators_of_the_file_and_its_libraries_are_obeyed
    singletons_and_scattered_clauses_are_warnings
    unknown_procedures_are_warnings
    what_is_known_in_some_way_is_no_unknown_procedure
    what_is_called_in_a_module_or_by_a_meta_argument_is_looked_for_there
    a_handler_of_no_trigger_is_warned_of
    who_surely_has_no_clause_for_datagrams_that_are_events_says_so
    a_declaration_without_the_library_says_what_to_add
    what_the_loader_stops_at_is_told_by_name
    what_an_initialization_throws_is_told_by_its_place
    a_clause_of_a_replicated_predicate_is_refused
    writes_during_loading_are_refused
    a_byte_order_mark_is_skipped
    declarations_are_told
    files_that_are_used_are_checked_too
    a_module_of_the_space_is_loaded_from_the_nodes_folder
    programs_with_every_kind_of_library_load
}

fn problems(program: &str) -> Vec<(u32, u32, String)> {
    match Node::launch(program, Options::agent()).next_said() {
        FromEngine::NotLoaded { problems, .. } => {
            let errors = problems.into_iter().filter(|p| p.severity == Severity::Error);
            errors.map(|p| (p.line, p.column, p.text)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn warnings(program: &str) -> Vec<(u32, u32, String)> {
    match Node::launch(program, Options::agent()).next_said() {
        FromEngine::Loaded { warnings, .. } => {
            warnings.into_iter().map(|p| (p.line, p.column, p.text)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn all_syntax_errors_are_told_with_line_and_column() {
    let program = "
:- use_module(library(synod)).
p(1) :- q(.
r(2).
   s(a b).
t('ok').
u(3) :- [a,, b].

% The last line has no end.
v(4";
    let found = problems(program);
    let places: Vec<_> = found.iter().map(|(line, column, _)| (*line, *column)).collect();
    assert_eq!(places, [(3, 1), (5, 4), (7, 1), (10, 1)], "{found:?}");
    assert!(found.iter().all(|(_, _, text)| text.starts_with("syntax error: ")), "{found:?}");
    assert!(found[1].2.contains("gave up at 5:"), "{found:?}");
}

fn operators_of_the_file_and_its_libraries_are_obeyed() {
    let program = "
:- use_module(library(synod)).
:- use_module(library(clpz)).
:- op(700, xfx, =>>).
p(X) :- X #= 1 + 2.
a =>> b.
bert_knows(X) :- bert::q(X).
";
    assert_eq!(warnings(program), []);
}

fn singletons_and_scattered_clauses_are_warnings() {
    let program = "
:- use_module(library(synod)).
:- discontiguous(apart/1).
on(event(_, _, a)).
p(X, Y, _Z) :- q(Y).
q(1).
p(1, 2, 3).
on(event(_, _, b)).
apart(1).
r.
apart(2).
";
    assert_eq!(
        warnings(program),
        [
            (5, 1, "singleton variable X".to_owned()),
            (
                7,
                1,
                "clauses of p/3 do not stand together; only the last group would be kept \
                 (`:- discontiguous(p/3).` keeps all)"
                    .to_owned()
            ),
        ]
    );
}

fn unknown_procedures_are_warnings() {
    let program = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- use_module(library(dcgs)).
:- replicated(account/2).
on(event(_, _, a(X))) :- acount(X, _), apend([], X, _).
p(Xs) :- maplist(nosuch(1), Xs), \\+ gone, findall(X, member(x, X), _).
q --> \"a\", rest, { also(gone) }.
p :- ( a -> b ; transaction((c, account(d, _))) ).
a. b.
:- initialization(catch(begin, _, true)).
r(X) :- length(X).
";
    let said = |name: &str| format!("unknown procedure {name}");
    assert_eq!(
        warnings(program),
        [
            (6, 26, said("acount/2; did you mean account/2?")),
            (6, 40, said("apend/3; did you mean append/3?")),
            (7, 18, said("nosuch/2")),
            (7, 37, said("gone/0")),
            (8, 12, said("rest/2")),
            (8, 20, said("also/1")),
            (9, 30, said("c/0")),
            (11, 25, said("begin/0")),
            (12, 9, said("length/1; did you mean length/2?")),
        ]
    );
}

fn what_is_known_in_some_way_is_no_unknown_procedure() {
    let mut options = Options::agent();
    let other = ":- module(other, [r/1]).\n:- use_module(library(lists)).\nr(X) :- s(X), t(X).
s(X) :- append(X, [], _).\nt(_).\n";
    options.files.push(("other.pl", other.into()));
    let program = "
:- module(prog, [main/0]).
:- use_module(library(synod)).
:- use_module(library(lists)).
:- use_module(library(dcgs)).
:- use_module(library(clpz)).
:- use_module(library(lambda)).
:- use_module(library(format)).
:- use_module(library(reif)).
:- use_module(library(tabling)).
:- use_module(library(assoc)).
:- use_module(library(dif)).
:- use_module(library(iso_ext)).
:- use_module(other).
:- dynamic(state/1).
:- discontiguous(later/1).
:- replicated((account/2, job/3+key(2))).
:- meta_predicate(twice(0)).
:- table path/2.
:- op(700, xfx, ===>).
main :- state(_), later(1), account(_, _), job(_, _, _), fresh(1), other:r(1), nowhere:none, M = user, M:anything.
more(X, Y) :- X #> Y + 1, Y #\\= 3, label([X, Y]), X in 0..9, dif(X, Y), r(X), X ===> Y.
A ===> B :- A = B.
meta(Gs, G) :- call(G), call(G, 1), maplist(\\X^(X = 1), Gs), maplist(=(1), Gs), foldl(add, Gs, 0, _),
    setof(X-Y, Z^more3(X, Y, Z), _), forall(member(X, Gs), X = 1), G, \\+ \\+ fail, once(!).
add(X, Y, Z) :- Z is X + Y.
more3(_, _, _).
twice(G) :- call(G), call(G).
two :- twice(assertz(fresh(1))), twice(( write(a), nl )).
greeting --> \"hello \", name(X), { atom(X) }, !, [], ( \"a\" | \"b\" ), \\+ \"c\", call(rest, x), seq(_), ... .
name(x) --> [].
rest(_, S, S).
use :- phrase(greeting, _), phrase(name(x), _, _), catch(optional(1), error(existence_error(_, _), _), true).
ask :- ( current_predicate(plugin/1) -> plugin(1) ; true ), if_(1 = 1, true, fail).
path(X, Y) :- edge(X, Y).
path(X, Y) :- path(X, Z), edge(Z, Y).
edge(a, b).
all(X) :- transaction(( retract(account(X, _)), assertz(account(X, 1)) )), retractall(cache(_)), cache(X),
    bob::anything(X), linearizable(account(X, _)), as_of(1, account(X, _)), broadcast(x), X == 1, X @< 2,
    functor(X, _, _), arg(1, X, _), X =.. [_], copy_term(X, _), atom_chars(_, \"a\"), number_codes(_, _),
    setof(A, B^account(A, B), _), catch(halt, _, true), sort([], _), X =:= 1, X >= 2, var(X), keysort([], _),
    list_to_assoc([], _), format(\"~w\", [X]), throw(x), findall(A, account(A, _), _, []), ground(X),
    bagof(A, account(A, B), _), sub_atom(a, _, _, _, _), read_term(_, []), term_variables(X, _), compare(_, X, X),
    unify_with_occurs_check(X, X), call_cleanup(true, true), op(1, fx, a), number_vars(X).
number_vars(X) :- ( var(X), ! ; nonvar(X) -> integer(X) ; atomic(X), compound(X), callable(X) ).
";
    match Node::launch(program, options).next_said() {
        FromEngine::Loaded { warnings, .. } => {
            let said = |p: &Problem| format!("{}:{}: {}", p.line, p.column, p.text);
            let unknown: Vec<_> =
                warnings.iter().map(said).filter(|text| text.contains("unknown")).collect();
            assert_eq!(unknown, Vec::<String>::new());
        }
        other => panic!("{other:?}"),
    }
    // Nobody knows what an expansion of the program's own makes of what it takes.
    let program = "user:term_expansion((a(X) :- _), b(X)).\nuser:goal_expansion(old(X), write(X)).
a(1) :- nosuch.\nq :- old(x), once(old(y)), b(1).\n";
    assert_eq!(warnings(program), []);
    let program = "term_expansion(X, X) :- fail.\nq :- nosuch.\n";
    assert_eq!(warnings(program), []);
    // A predicate of the program's own has the name of one that calls.
    let program = "time(X) :- write(X).\nq :- time(noon).\n";
    assert_eq!(warnings(program), []);
    // A program that calls on/1 itself has it for more.
    let program = ":- use_module(library(synod)).\non(mine(X)) :- write(X).\nq :- on(mine(1)).\n";
    assert_eq!(warnings(program), []);
}

fn what_is_called_in_a_module_or_by_a_meta_argument_is_looked_for_there() {
    let mut options = Options::agent();
    let other = ":- module(other, [twice/1]).\n:- meta_predicate(twice(0)).\ntwice(G) :- G, G.\n";
    options.files.push(("other.pl", other.into()));
    let program = ":- use_module(library(synod)).
:- use_module(library(lists)).
:- use_module(other).
:- meta_predicate(thrice(1)).
:- meta_predicate(each(2, ?)).
p :- other:twise(true), lists:apend([], [], _), maplist(other:nothing, []), other:(true, gone).
q :- twice(nosuch), thrice(nosuch), each(nosuch, []).
thrice(G) :- call(G, 1).
each(G, X) :- call(G, X, 1).
user:term_expansion(make(X), m(X)).
make(1).
r :- m(1), nosuch.
";
    let FromEngine::Loaded { warnings, .. } = Node::launch(program, options).next_said() else {
        panic!()
    };
    let said: Vec<_> = warnings.iter().map(|p| format!("{}:{}", p.line, p.text)).collect();
    let unknown = |line: u32, what: &str| format!("{line}:unknown procedure {what}");
    assert_eq!(
        said,
        [
            unknown(6, "other:twise/1; did you mean twice/1?"),
            unknown(6, "lists:apend/3; did you mean append/3?"),
            unknown(6, "other:nothing/1"),
            unknown(6, "other:gone/0"),
            unknown(7, "nosuch/0"),
            unknown(7, "nosuch/1"),
            unknown(7, "nosuch/2"),
            unknown(12, "nosuch/0"),
        ]
    );
}

fn who_surely_has_no_clause_for_datagrams_that_are_events_says_so() {
    for (clauses, may_handle) in [
        ("on(event(_, _, _)).\non(udp(_, _, _)).\non(datagram(_, _, _)).", false),
        ("p.", false),
        ("on(datagram(_, _, _, bytes(_))).", true),
        ("on(udp(_, _, _, _)).", true),
        ("on(Any) :- write(Any).", true),
        (":- dynamic(on/1).", true),
        ("term_expansion(a, on(datagram(_, _, _, _))).\na.", true),
    ] {
        let program = format!(":- use_module(library(synod)).\n{clauses}\n");
        let loaded = Node::launch(&program, Options::agent()).next_said();
        let FromEngine::Loaded { datagrams, .. } = loaded else { panic!("{loaded:?}") };
        assert_eq!(datagrams, may_handle, "{clauses}");
    }
}

fn a_handler_of_no_trigger_is_warned_of() {
    let program = ":- use_module(library(synod)).
on(evnt(_, _, a)).
on(event(_, a)) :- true.
on(changed(retract(_))).
on(begin).
on(_).
";
    let never = "this clause of on/1 is never called: no trigger is ";
    let all = "start/0, engine/0, event/3, changed/1, timer/1, message/3, sent/2, udp/3, datagram/3, udp/4, datagram/4, gap/2";
    assert_eq!(
        warnings(program),
        [
            (2, 4, format!("{never}evnt/3; did you mean event/3?")),
            (3, 4, format!("{never}event/2; did you mean event/3?")),
            (5, 4, format!("{never}begin/0; there are {all}")),
        ]
    );
}

fn a_declaration_without_the_library_says_what_to_add() {
    for what in ["replicated(p/1)", "agent(one)"] {
        let found = problems(&format!("q.\n:- {what}.\n"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, 2);
        assert!(found[0].2.contains("put `:- use_module(library(synod)).` before it"), "{found:?}");
    }
}

fn what_the_loader_stops_at_is_told_by_name() {
    for (program, wanted) in [
        (":- use_module(library(no_such)).", "library(no_such) does not exist"),
        (":- use_module(no_such_file).", "file no_such_file does not exist"),
        (":- initialization(throw(oops)).", "oops"),
        (
            ":- no_such_directive(1).",
            "no_such_directive/1 is no directive: a goal that is to run when the program has been loaded \
             is `:- initialization(Goal).`",
        ),
        (":- fail.", "`:- initialization(Goal).`"),
        (
            "p :- q,\n   r.\n:- initialization(true).\n:- dynamic(1).",
            "error(syntax_error(invalid_module_export),load/1)",
        ),
        (":- replicated(p).", "error(type_error(predicate_indicator,p),replicated/1)"),
        (":- replicated(X).", "error(instantiation_error,replicated/1)"),
        (":- replicated(p/1+key(2)).", "error(domain_error(argument_number,2),replicated/1)"),
        (
            ":- replicated(append/1).\n:- replicated(write/1).",
            "error(permission_error(modify,static_procedure,write/1),replicated/1)",
        ),
        (":- agent(some).", "error(domain_error(agent_option,some),agent/1)"),
        (
            ":- agent([one, record(maybe)]).",
            "error(domain_error(agent_option,record(maybe)),agent/1)",
        ),
    ] {
        let lines = program.matches('\n').count() as u32;
        let program = format!(":- use_module(library(synod)).\n{program}\nq(1).\n");
        let found = problems(&program);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].2.ends_with(wanted), "{found:?}");
        assert_eq!((found[0].0, found[0].1), (2 + lines, 1), "{found:?}");
    }
    let mut node = Node::launch("p :- q(.", Options::agent());
    assert!(matches!(node.next_said(), FromEngine::NotLoaded { .. }));
    assert_eq!(node.next_or_death(), Err(Death::Ended));
}

fn what_an_initialization_throws_is_told_by_its_place() {
    // Of several, the one that threw; also of a file that the program uses.
    let several = "
:- initialization(true).
:- initialization(
    throw(oops)).
:- initialization(throw(never)).
";
    let found = problems(&format!(":- use_module(library(synod)).{several}"));
    assert_eq!(found, [(3, 1, "the directive threw oops".to_owned())]);
    // Without the library, too.
    let found = problems("p.\n:- initialization(throw(oops)).\n");
    assert_eq!(found, [(2, 1, "the directive threw oops".to_owned())]);
    let mut options = Options::agent();
    options.files.push(("other.pl", format!(":- module(other, []).{several}")));
    let program = ":- use_module(library(synod)).\n:- use_module(other).\n";
    let mut node = Node::launch(program, options);
    let FromEngine::NotLoaded { problems, .. } = node.next_said() else { panic!() };
    assert!(problems[0].file.ends_with("/other.pl"), "{problems:?}");
    assert_eq!((problems[0].line, &*problems[0].text), (3, "the directive threw oops"));
}

fn a_clause_of_a_replicated_predicate_is_refused() {
    let head = ":- use_module(library(synod)).\n:- replicated(p/1).\n";
    let found = problems(&format!("{head}p(1).\n"));
    assert_eq!(found[0].0, 3);
    assert_eq!(found[0].2, "p/1 is replicated: its clauses are facts of the space, not text");
    // One that the check pass cannot see.
    let expansion = "user:term_expansion(make(X), p(X)).\nmake(1).\n";
    let found = problems(&format!("{head}{expansion}"));
    let wanted = "error(permission_error(modify,replicated_procedure,p/1),load/1)";
    assert!(found[0].2.ends_with(wanted), "{found:?}");
    assert_eq!(found[0].0, 4);
}

fn writes_during_loading_are_refused() {
    let program = ":- use_module(library(synod)).\n:- replicated(p/1).
:- initialization(assertz(p(1))).\n";
    let found = problems(program);
    assert_eq!(
        found[0],
        (3, 1, "the directive threw error(permission_error(modify,facts,load),synod)".to_owned())
    );
}

fn a_byte_order_mark_is_skipped() {
    let program = "\u{feff}:- use_module(library(synod)).\np(X, a).\nq(é) :- nosuch.\n";
    let said = [
        (2, 1, "singleton variable X".to_owned()),
        (3, 9, "unknown procedure nosuch/0".to_owned()),
    ];
    assert_eq!(warnings(program), said);
    let found = problems("\u{feff}p(a b).\nok.\nq(a b).\n");
    let places: Vec<_> = found.iter().map(|p| (p.0, p.1)).collect();
    assert_eq!(places, [(1, 1), (3, 1)], "{found:?}");
    let program = "\u{feff}p(a).\n:- initialization(throw(oops)).\n";
    assert_eq!(problems(program), [(2, 1, "the directive threw oops".to_owned())]);
    let mut node = Node::start("\u{feff}:- module(m, [p/1]).\np(1).\n", Options::side());
    assert_eq!(node.query("p(X)").0, ["X = 1"]);
    // The machine loads by itself what a program uses.
    let mut options = Options::agent();
    options.files.push(("other.pl", "\u{feff}:- module(other, []).\n".into()));
    let mut node = Node::launch(":- use_module(other).\n", options);
    let FromEngine::NotLoaded { problems, .. } = node.next_said() else { panic!() };
    assert!(problems[0].text.contains("byte order mark"), "{problems:?}");
}

fn declarations_are_told() {
    let program = "
:- module(shop, [order/1]).
:- use_module(library(synod)).
:- agent([each, record(true)]).
:- replicated([job/3+key(2)+key(3), stock/2]).
:- replicated((a/0, b/1)).
:- replicated(job/3).
order(X) :- job(X, _, _).
:- initialization(( job(A, _, _), write(found(A)), nl )).
";
    let mut options = Options::agent();
    options.facts = vec![term("job(7, a, b)")];
    let FromEngine::Loaded { declared, mode, records, output, .. } =
        Node::launch(program, options).next_said()
    else {
        panic!()
    };
    let names: Vec<_> =
        declared.iter().map(|d| format!("{}/{}{:?}", d.name, d.arity, d.keys)).collect();
    assert_eq!(names, ["a/0[]", "b/1[]", "job/3[2, 3]", "stock/2[]"]);
    assert_eq!((mode, records), (Mode::Each, true));
    // Facts can be read while the program is loaded.
    assert_eq!(String::from_utf8_lossy(&output), "found(7)\n");
}

fn files_that_are_used_are_checked_too() {
    let mut options = Options::agent();
    options
        .files
        .push(("other.pl", ":- module(other, [r/1, op(700, xfx, ~>)]).\nr(a ~> b).\nq(.\n".into()));
    let program = ":- use_module(library(synod)).\n:- use_module(other).\np(x ~> y).\n";
    let mut node = Node::launch(program, options);
    let FromEngine::NotLoaded { problems, .. } = node.next_said() else { panic!() };
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].file.ends_with("/other.pl"));
    assert_eq!((problems[0].line, problems[0].column), (3, 1));
}

fn a_module_of_the_space_is_loaded_from_the_nodes_folder() {
    let mut options = Options::side();
    options
        .files
        .push(("tools.pl", ":- module(tools, [twice/2]).\ntwice(X, Y) :- Y is 2*X.\n".into()));
    options.module = Some("tools.pl");
    let program = ":- use_module(library(synod)).\n:- use_module(net(tools)).\n";
    let mut node = Node::start(program, options);
    assert_eq!(node.query("twice(4, X)").0, ["X = 8"]);
    node.replies.push_back(Err(term("error(existence_error(module, nix), use_module/1)")));
    let (_, end) = node.query("consult(net(nix))");
    assert_eq!(super::node::error_of(&end), "error(existence_error(module,nix),use_module/1)");
}

fn programs_with_every_kind_of_library_load() {
    let program = "
:- use_module(library(synod)).
:- use_module(library(cbor)).
:- use_module(library(dcgs)).
:- use_module(library(assoc)).
:- use_module(library(format)).
:- use_module(library(tabling)).
:- use_module(library(lambda)).
:- use_module(library(reif)).
:- use_module(library(pairs)).
:- use_module(library(lists)).
:- table path/2.
path(X, Y) :- edge(X, Y).
path(X, Y) :- path(X, Z), edge(Z, Y).
edge(a, b). edge(b, c). edge(c, a).
greeting --> \"hello \", name.
name --> \"world\".
";
    let mut node = Node::start(program, Options::side());
    assert_eq!(node.query("phrase(greeting, \"hello world\")").0, ["true"]);
    assert_eq!(
        node.query("findall(Y, path(a, Y), L0), sort(L0, L)").0,
        ["L0 = \"abc\", L = \"abc\""]
    );
    let goal = "list_to_assoc([k-v], A), get_assoc(k, A, V), format(\"~w~n\", [V])";
    node.query(goal);
    assert_eq!(node.printed(), "v\n");
}
