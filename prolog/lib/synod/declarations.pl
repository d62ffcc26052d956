%%%% Declarations. They are directives; the loader hands them to term_expansion/2.

%% :- replicated(+PIs).
%
% The clauses of these predicates are facts of the space. PIs is a predicate indicator, a list or a
% comma sequence of them, as for dynamic/1; `job/3+key(2)` says that calls with the second argument
% bound are to be as quick, and to conflict as little, as those with the first. A clause for one in
% the program's text is permission_error(modify, replicated_procedure, PI).

%% :- agent(+Options).
%
% An option or a list of them. `one`, the default: one instance in the space is the holder, others are
% standbys. `each`: every node that runs the program runs an agent of its own, `Name@Node`.
% `record(true)`: the log tells of every trigger that the agent handles, also of messages and timers
% for which it writes nothing, and of what it sends, so that a replay shows all of it.

use_expansion(library(synod), Terms) :-
    load_module(Module),
    \+ prepared(Module),
    assertz(prepared(Module)),
    expansions(Module, Expansions),
    append([(:- use_module(library(synod))), (:- discontiguous(on/1))], Expansions, Terms).
use_expansion(net(Name), (:- use_module(File))) :-
    module_file(Name, File).

use_expansion(library(synod), Exports, [(:- use_module(library(synod), Exports)) | Terms]) :-
    load_module(Module),
    \+ prepared(Module),
    assertz(prepared(Module)),
    expansions(Module, Expansions),
    append([(:- discontiguous(on/1))], Expansions, Terms).
use_expansion(net(Name), Exports, (:- use_module(File, Exports))) :-
    module_file(Name, File).
use_expansion(remote(Agent), PIs, Clauses) :-
    must_be(atom, Agent),
    must_be(list, PIs),
    host(ask_agent(Agent), _),
    stubs(PIs, Agent, Clauses).

load_module(Module) :-
    (   prolog_load_context(module, Module) -> true
    ;   Module = user
    ).

stubs([], _, []).
stubs([PI|PIs], Agent, [(Head :- synod:remote(Agent, Head, []))|Clauses]) :-
    must_be_pi(PI, Name, Arity),
    functor(Head, Name, Arity),
    stubs(PIs, Agent, Clauses).

% What a module's goals become. One clause a functor, in the module itself: hooks of `user` would
% change every other module.
expansions(M, [
    (goal_expansion(assertz(C), synod:add(z, M, C)) :- true),
    (goal_expansion(asserta(C), synod:add(a, M, C)) :- true),
    (goal_expansion(retract(C), synod:take(M, C)) :- true),
    (goal_expansion(retractall(H), synod:take_all(M, H)) :- true),
    (goal_expansion(abolish(PI), synod:abolish(M, PI)) :- true),
    (goal_expansion(clause(H, B), synod:clause(M, H, B)) :- true),
    (goal_expansion(halt, synod:quit(0)) :- true),
    (goal_expansion(halt(Status), synod:quit(Status)) :- true),
    (goal_expansion(consult(File), synod:consult(M, File)) :- true),
    (goal_expansion(set_prolog_flag(Flag, Value), synod:set_flag(Flag, Value)) :- true)
]).

agent_expansion(Options, Nothing) :-
    (   '$skip_max_list'(_, _, Options, Tail), Tail == [], Options \== [] -> agent_options(Options)
    ;   agent_option(Options)
    ),
    nothing(Nothing).

agent_options([]).
agent_options([Option|Options]) :-
    agent_option(Option),
    agent_options(Options).

agent_option(Option) :-
    (   var(Option) -> instantiation_error(agent/1)
    ;   member(Option, [one, each]) -> host_tell(mode(Option))
    ;   Option = record(Bool), member(Bool0, [true, false]), Bool == Bool0 -> host_tell(records(Bool))
    ;   domain_error(agent_option, Option, agent/1)
    ).

flag_expansion(Flag, Value, Nothing) :-
    Flag == double_quotes,
    set_flag(Flag, Value),
    nothing(Nothing).

% A directive that does nothing: no term at all is nothing that a term can be expanded to.
nothing((:- initialization(true))).

% The loader prints what a hook throws, and goes on: here it is told to the host, which then has the
% program not loaded.
expansion(Goal, Terms) :-
    catch(Goal, Error, synod:refuse(Error, Terms)).

refuse(Error, Nothing) :-
    '$write_term_to_chars'(Chars, Error, false, true, true, [], 0, true),
    (   synod_check:loading_place(File, From) ->
        host_tell(problem(error, File, From, From, thrown(Chars)))
    ;   host_tell(refused(thrown(Chars)))
    ),
    nothing(Nothing).

replicated_expansion(PIs, Terms) :-
    load_module(Module),
    replicated_pis(PIs, Declared, []),
    accessors(Declared, Module, Terms).

replicated_pis(PIs, Ds0, Ds) :-
    (   var(PIs) -> instantiation_error(replicated/1)
    ;   PIs == [] -> Ds0 = Ds
    ;   ( PIs = [A|B] ; PIs = (A, B) ) ->
        replicated_pis(A, Ds0, Ds1),
        replicated_pis(B, Ds1, Ds)
    ;   replicated_keys(PIs, PI, Keys),
        must_be_pi(PI, Name, Arity),
        must_be_free(Name, Arity),
        must_be_keys(Keys, Arity),
        Ds0 = [d(Name, Arity, Keys)|Ds]
    ).

replicated_keys(Declaration, PI, Keys) :-
    (   Declaration = PI0+key(Key) ->
        replicated_keys(PI0, PI, Keys0),
        append(Keys0, [Key], Keys)
    ;   Declaration = PI,
        Keys = []
    ).

must_be_pi(PI, Name, Arity) :-
    (   var(PI) -> instantiation_error(replicated/1)
    ;   PI = Name/Arity -> true
    ;   PI = _:PI1, nonvar(PI1), PI1 = Name/Arity -> true
    ;   type_error(predicate_indicator, PI, replicated/1)
    ),
    must_be(atom, Name),
    must_be(integer, Arity),
    (   Arity >= 0, Arity =< 255 -> true
    ;   domain_error(arity, Arity, replicated/1)
    ).

must_be_free(Name, Arity) :-
    functor(Head, Name, Arity),
    (   predicate_property(Head, built_in) ->
        throw(error(permission_error(modify, static_procedure, Name/Arity), replicated/1))
    ;   true
    ).

must_be_keys([], _).
must_be_keys([Key|Keys], Arity) :-
    must_be(integer, Key),
    (   Key >= 1, Key =< Arity -> true
    ;   domain_error(argument_number, Key, replicated/1)
    ),
    must_be_keys(Keys, Arity).

accessors([], _, []).
accessors([d(Name, Arity, Keys)|Ds], Module, Terms) :-
    host_tell(declare(Name, Arity, Keys)),
    register(Name, Arity),
    (   imported(Name, Arity, Module) ->
        Terms = Terms1
    ;   assertz(imported(Name, Arity, Module)),
        functor(Head, Name, Arity),
        accessor(Head, Clause),
        Terms = [Clause|Terms1]
    ),
    accessors(Ds, Module, Terms1).

register(Name, Arity) :-
    replicated_pi(Name, Arity),
    !.
register(Name, Arity) :-
    assertz(replicated_pi(Name, Arity)),
    functor(Head, Name, Arity),
    uncopied(Head).

% A clause in program text for a replicated predicate. The accessors themselves are let through.
replicated_clause(Clause, Name/Arity) :-
    nonvar(Clause),
    Clause \= (:- _),
    (   Clause = (Head0 :- _) -> true
    ;   Clause = Head0
    ),
    nonvar(Head0),
    \+ is_accessor(Clause, Head0),
    (   Head0 = _:Head1, nonvar(Head1) -> Head = Head1
    ;   Head = Head0
    ),
    callable(Head),
    functor(Head, Name, Arity),
    replicated_pi(Name, Arity).

is_accessor(Clause, Head) :-
    callable(Head),
    accessor(Head, Accessor),
    Clause == Accessor.
