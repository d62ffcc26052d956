/** Agents that agree.

A program that uses this library is an *agent*: it handles what happens with `on/1`, keeps what must
last as facts of its space, and is told of what others do as events in one order for all.

```
:- use_module(library(synod)).
:- replicated(account/2).

on(event(_Position, _From, open(Name))) :-
    \+ account(Name, _),
    assertz(account(Name, 0)).
```

**Facts.** The clauses of a predicate that is declared `replicated/1` are facts of the space: read
as ordinary goals, written with `assertz/1`, `asserta/1`, `retract/1`, `retractall/1`. They are known
by name and arity, without module. Calls see the logical update view of the standard.

**Transactions.** A handler is one: what it wrote and what it read become one command, which is
committed if nothing of what was read has changed since, and otherwise the handler runs again.
`transaction/1` makes one anywhere else. A write outside of any is a transaction of its own.

**What is not guaranteed.** What a handler does outside of the facts (its output, messages, timers)
happens after the commit, once, and is lost if the node dies in between. Native clauses and the
blackboard are lost when the engine is renewed. A goal built at run time from a bare name,
`G = maplist(assertz)`, is not seen by this library: on a replicated predicate it is a
permission_error.

What is written to the facts is written by name: keys from an open set are strings or integers,
atoms are for the vocabulary of the program; money is integers.
*/

:- module(synod, [
    op(650, xfy, ::),
    transaction/1,          % :Goal
    transaction/2,          % :Goal, +Options
    broadcast/1,            % +Term
    publish/2,              % +Topic, +Term
    subscribe/1,            % +Topic
    unsubscribe/1,          % +Topic
    send/2,                 % +Agent, +Term
    (::)/2,                 % +Agent, ?Goal
    remote/3,               % +Agent, ?Goal, +Options
    linearizable/1,         % :Goal
    as_of/2,                % +Index, :Goal
    after/2,                % +Seconds, +Term
    every/2,                % +Seconds, +Term
    cancel/1,               % +Term
    watch/1,                % +PI
    watch/2,                % +PI, +Options
    unwatch/1,              % +PI
    self/1,                 % -Agent
    this_node/1,            % -Node
    space_members/1,        % -Members
    outcome/2,              % +Id, -Outcome
    agent_log/3             % +Level, +Format, +Arguments
]).

:- use_module(library(error)).
:- use_module(library(iso_ext), [setup_call_cleanup/3]).
:- use_module(library(lists), [append/3, member/2, maplist/2]).
:- use_module(library(synod_host)).

:- meta_predicate(transaction(0)).
:- meta_predicate(transaction(0, ?)).
:- meta_predicate(linearizable(0)).
:- meta_predicate(as_of(?, 0)).

:- dynamic(prepared/1).         % modules that have their expansions
:- dynamic(replicated_pi/2).    % Name, Arity
:- dynamic(imported/3).         % Name, Arity, Module: replicated, and an accessor is there

%%%% Declarations. They are directives; the loader hands them to term_expansion/2.

%% :- replicated(+PIs).
%
% The clauses of these predicates are facts of the space. PIs is a predicate indicator, a list or a
% comma sequence of them, as for dynamic/1; `job/3+key(2)` says that calls with the second argument
% bound are to be as quick, and to conflict as little, as those with the first. A clause for one in
% the program's text is permission_error(modify, replicated_procedure, PI).

%% :- agent(+Mode).
%
% `one`, the default: one instance in the space is the holder, others are standbys. `each`: every
% node that runs the program runs an agent of its own, `Name@Node`.

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

agent_expansion(Mode, Nothing) :-
    must_be(atom, Mode),
    (   member(Mode, [one, each]) -> host_tell(mode(Mode))
    ;   domain_error(agent_mode, Mode, agent/1)
    ),
    nothing(Nothing).

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
    host_tell(refused(Chars)),
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
    (   replicated_pi(Name, Arity) -> true
    ;   assertz(replicated_pi(Name, Arity))
    ),
    (   imported(Name, Arity, Module) ->
        Terms = Terms1
    ;   assertz(imported(Name, Arity, Module)),
        functor(Head, Name, Arity),
        Terms = [(Head :- synod:fact(Head))|Terms1]
    ),
    accessors(Ds, Module, Terms1).

% A clause in program text for a replicated predicate. The accessors themselves are let through.
replicated_clause(Clause, Name/Arity) :-
    nonvar(Clause),
    Clause \= (:- _),
    (   Clause = (Head0 :- Body) -> Body \== synod:fact(Head0)
    ;   Clause = Head0
    ),
    nonvar(Head0),
    (   Head0 = _:Head1, nonvar(Head1) -> Head = Head1
    ;   Head = Head0
    ),
    callable(Head),
    functor(Head, Name, Arity),
    replicated_pi(Name, Arity).

%%%% Facts.

% fact(+Head): what a replicated predicate's accessor calls. The host answers a list of the facts
% that can match; its tail is [] after the last, and else the number under which to ask for more.
fact(Head) :-
    host(find(Head), Facts),
    found(Facts, Head).

found([Fact|Facts], Head) :-
    found(Facts, Fact, Head).

found(Facts, Fact, Head) :-
    (   Facts == [] -> Head = Fact
    ;   Head = Fact
    ;   found_more(Facts, Head)
    ).

found_more(Facts, Head) :-
    (   Facts = [Fact|Facts1] -> found(Facts1, Fact, Head)
    ;   host(more(Facts), Facts1),
        found(Facts1, Head)
    ).

% add(+End, +Module, +Clause): assertz/1 (z) and asserta/1 (a).
add(End, Module, Clause) :-
    clause_parts(Module, Clause, M, Head, Body),
    (   replicated_head(Head) ->
        (   Body == true -> host_tell(add(End, Head))
        ;   functor(Head, Name, Arity),
            must_be_body(Body),
            throw(error(permission_error(modify, replicated_procedure, Name/Arity), assertz/1))
        )
    ;   Body == true -> native(End, M:Head)
    ;   native(End, M:(Head :- Body))
    ).

native(z, Clause) :- builtins:assertz(Clause).
native(a, Clause) :- builtins:asserta(Clause).

must_be_body(Body) :-
    (   var(Body) -> throw(error(instantiation_error, assertz/1))
    ;   callable(Body) -> true
    ;   throw(error(type_error(callable, Body), assertz/1))
    ).

% Takes a clause apart as 8.9.1 of the standard has it; its body's goals are expanded.
clause_parts(Module0, Clause, Module, Head, Body) :-
    (   var(Clause) -> throw(error(instantiation_error, assertz/1))
    ;   Clause = M:Clause1, atom(M) -> clause_parts(M, Clause1, Module, Head, Body)
    ;   Clause = (Head0 :- Body0) ->
        head_parts(Module0, Head0, Module, Head),
        (   callable(Body0) -> loader:expand_goal(Body0, Module, Body)
        ;   Body = Body0
        )
    ;   head_parts(Module0, Clause, Module, Head),
        Body = true
    ).

head_parts(Module0, Head0, Module, Head) :-
    (   var(Head0) -> throw(error(instantiation_error, assertz/1))
    ;   Head0 = M:Head1, atom(M) -> head_parts(M, Head1, Module, Head)
    ;   callable(Head0) -> Module = Module0, Head = Head0
    ;   throw(error(type_error(callable, Head0), assertz/1))
    ).

replicated_head(Head) :-
    functor(Head, Name, Arity),
    replicated_pi(Name, Arity).

% take(+Module, ?Clause): retract/1. The host takes the first fact away that matches, and answers
% as for fact/1. Constraints on variables are not known to it: then each candidate is tried here.
take(Module, Clause) :-
    clause_pattern(Module, Clause, M, Head, Body),
    (   replicated_head(Head) ->
        Body = true,
        (   '$term_attributed_variables'(Head, []) ->
            host(take(Head), Facts),
            taken(Facts, Head)
        ;   host(handles(Head), Handles),
            take_one(Handles, Head)
        )
    ;   builtins:retract(M:(Head :- Body))
    ).

taken([Fact|Rest], Head) :-
    (   Rest == [] -> Head = Fact
    ;   Head = Fact
    ;   host(take_more(Rest), Facts),
        taken(Facts, Head)
    ).

take_one(Handles, Head) :-
    (   Handles = [h(Handle, Fact)|Handles1] ->
        (   Head = Fact,
            host(take_handle(h(Head, Handle)), true)
        ;   take_one(Handles1, Head)
        )
    ;   integer(Handles),
        host(more(Handles), Handles1),
        take_one(Handles1, Head)
    ).

clause_pattern(Module0, Clause, Module, Head, Body) :-
    (   var(Clause) -> throw(error(instantiation_error, retract/1))
    ;   Clause = M:Clause1, atom(M) -> clause_pattern(M, Clause1, Module, Head, Body)
    ;   Clause = (Head0 :- Body) -> head_pattern(Module0, Head0, Module, Head, retract/1)
    ;   Body = true,
        head_pattern(Module0, Clause, Module, Head, retract/1)
    ).

head_pattern(Module0, Head0, Module, Head, Context) :-
    (   var(Head0) -> throw(error(instantiation_error, Context))
    ;   Head0 = M:Head1, atom(M) -> head_pattern(M, Head1, Module, Head, Context)
    ;   callable(Head0) -> Module = Module0, Head = Head0
    ;   throw(error(type_error(callable, Head0), Context))
    ).

% take_all(+Module, +Head): retractall/1.
take_all(Module, Head0) :-
    head_pattern(Module, Head0, M, Head, retractall/1),
    (   replicated_head(Head) ->
        (   '$term_attributed_variables'(Head, []) -> host_tell(take_all(Head))
        ;   (   take(M, Head), fail
            ;   true
            )
        )
    ;   builtins:retractall(M:Head)
    ).

% clause(+Module, +Head, ?Body): clause/2.
clause(Module, Head0, Body) :-
    head_pattern(Module, Head0, M, Head, clause/2),
    (   replicated_head(Head) ->
        (   var(Body) -> true
        ;   callable(Body) -> true
        ;   throw(error(type_error(callable, Body), clause/2))
        ),
        Body = true,
        fact(Head)
    ;   M == user -> builtins:clause(Head, Body)      % user:'$clause'/2 is none that exists
    ;   builtins:clause(M:Head, Body)
    ).

% abolish(+Module, @PI): abolish/1.
abolish(Module, PI0) :-
    (   nonvar(PI0), PI0 = M:PI, atom(M) -> true
    ;   M = Module, PI = PI0
    ),
    (   nonvar(PI), PI = Name/Arity, atom(Name), integer(Arity), replicated_pi(Name, Arity) ->
        throw(error(permission_error(modify, replicated_procedure, PI), abolish/1))
    ;   builtins:abolish(M:PI)
    ).

quit(Status) :-
    (   integer(Status), Status >= 0, Status =< 255 -> host_tell(halt(Status))
    ;   true
    ),
    builtins:halt(Status).

set_flag(Flag, Value) :-
    builtins:set_prolog_flag(Flag, Value),
    (   Flag == double_quotes -> host_tell(quotes(Value))
    ;   true
    ).

% consult(+Module, +File): consult/1, of net(Name) too.
consult(Module, File0) :-
    (   nonvar(File0), File0 = net(Name) -> module_file(Name, File)
    ;   File = File0
    ),
    call(Module:use_module(File)).

module_file(Name, File) :-
    must_be(atom, Name),
    host(module(Name), File).

%%%% Transactions.

%% transaction(:Goal) is semidet.
%
% once(Goal) as one transaction of the space: succeeds, fails or throws as Goal does. It sees its own
% writes; backtracking over a write keeps it, as everywhere; if Goal fails or throws, nothing of what
% it wrote remains, clause order included. If what it read has changed before it could commit, Goal
% runs again. Inside another transaction, a handler included, it is a savepoint of that one.
%
% ```
% ?- transaction(( retract(account(alice, X)), X >= 30, Y is X-30, assertz(account(alice, Y)) )).
%    X = 100, Y = 70.
% ?- transaction(( assertz(account(carl, 1)), fail )).
%    false.
% ?- account(carl, X).
%    false.
% ```
%
% Errors: conflict(Keys) if it could not be committed within 5 s, unknown(Id) if nobody knows whether
% it was (`outcome/2` asks later), and whatever Goal throws.
transaction(Goal) :-
    transaction(Goal, []).

%% transaction(:Goal, +Options) is semidet.
%
% Options: `fresh` reads at a version that was the space's newest after the call was made. Without
% it a Goal that fails or writes nothing speaks of the version that the engine happens to be at.
% Errors: domain_error(transaction_option, Option).
%
% ```
% ?- transaction(account(alice, X), [fresh]).
%    X = 70.
% ?- transaction(true, [stale]).
%    error(domain_error(transaction_option,stale),transaction/2).
% ```
transaction(Goal, Options) :-
    must_be(list, Options),
    fresh(Options, Fresh),
    host(begin(Fresh), Where),
    (   Where = savepoint(N) ->
        attempt(Goal, Result),
        nested_end(Result, N)
    ;   repeat,
        attempt(Goal, Result),
        top_end(Result),
        !,
        ended(Result)
    ).

fresh([], false).
fresh([Option|Options], Fresh) :-
    (   Option == fresh -> Fresh = true, fresh(Options, _)
    ;   var(Option) -> instantiation_error(transaction/2)
    ;   domain_error(transaction_option, Option, transaction/2)
    ).

attempt(Goal, Result) :-
    catch(synod:attempt_(Goal, Result), Ball, Result = threw(Ball)).

attempt_(Goal, Result) :-
    (   call(Goal) -> Result = true
    ;   Result = false
    ).

nested_end(true, N) :-
    host_tell(keep(N)).
nested_end(false, N) :-
    host_tell(rollback(N)),
    fail.
nested_end(threw(Ball), N) :-
    host_tell(rollback(N)),
    throw(Ball).

% Fails when the goal is to be run again.
top_end(true) :-
    host(commit, Committed),
    Committed == true.
top_end(false) :-
    host_tell(abort).
top_end(threw(_)) :-
    host_tell(abort).

ended(true).
ended(threw(Ball)) :-
    throw(Ball).

%% linearizable(:Goal) is nondet.
%
% Goal, at a version that was the space's newest after the call was made. permission_error inside a
% transaction, whose version is fixed.
%
% ```
% ?- linearizable(account(alice, X)).
%    X = 70.
% ```
linearizable(Goal) :-
    host_tell(linearizable),
    call(Goal).

%% as_of(+Index, :Goal) is nondet.
%
% Goal, on the facts as they were when the command at Index had been applied. The answers are found
% before the first is given. Writing in Goal, and as_of/2 inside a transaction, are permission_errors;
% existence_error(index, Index) where the history does not reach.
%
% ```
% ?- as_of(3, account(alice, X)).
%    X = 100.
% ```
as_of(Index, Goal) :-
    must_be(integer, Index),
    host_tell(as_of(Index)),
    catch(findall(Goal, Goal, Goals), Ball, true),
    host_tell(as_of_end),
    (   nonvar(Ball) -> throw(Ball)
    ;   member(Goal, Goals)
    ).

%% outcome(+Id, -Outcome) is det.
%
% What became of a transaction that threw unknown(Id): committed(Index), refused or unknown.
%
% ```
% ?- outcome("7.1", Outcome).
%    Outcome = committed(9).
% ```
outcome(Id, Outcome) :-
    host(fate(Id), Outcome).

%%%% Events and messages.

%% broadcast(+Term) is det.
%
% Total-order broadcast: Term becomes an event of the space's log when the transaction commits.
% `on(event(Position, From, Term))` is called for it in every agent of the space, this one included,
% in one order for all.
%
% ```
% ?- broadcast(open(dora)).
%    true.
% ?- broadcast(_).
%    error(instantiation_error,broadcast/1).
% ```
broadcast(Term) :-
    must_be_bound(Term, broadcast/1),
    host_tell(emit(Term)).

%% publish(+Topic, +Term) is det.
%
% Gossips Term to whoever is subscribed to the atom Topic: unordered, best effort, after the commit.
%
% ```
% ?- publish(prices, price(eur, 108)).
%    true.
% ```
publish(Topic, Term) :-
    must_be(atom, Topic),
    must_be_bound(Term, publish/2),
    host_tell(publish(Topic, Term)).

%% subscribe(+Topic) is det.
%
% `on(message(Topic, From, Term))` is called for what is published under the atom Topic. It outlives
% the engine; on(start) is the place for it.
%
% ```
% ?- subscribe(prices).
%    true.
% ?- subscribe("prices").
%    error(type_error(atom,"prices"),must_be/2).
% ```
subscribe(Topic) :-
    must_be(atom, Topic),
    host_tell(subscribe(Topic)).

%% unsubscribe(+Topic) is det.
%
% Ends subscribe/1.
%
% ```
% ?- unsubscribe(prices).
%    true.
% ```
unsubscribe(Topic) :-
    must_be(atom, Topic),
    host_tell(unsubscribe(Topic)).

%% send(+Agent, +Term) is det.
%
% Sends Term to one agent, by its name, wherever it runs: `on(sent(From, Term))`. At most once.
%
% ```
% ?- send(bert, hello).
%    true.
% ```
send(Agent, Term) :-
    must_be(atom, Agent),
    must_be_bound(Term, send/2),
    host_tell(send(Agent, Term)).

must_be_bound(Term, Context) :-
    (   var(Term) -> instantiation_error(Context)
    ;   true
    ).

%% +Agent :: ?Goal is nondet.
%
% Solves Goal in another agent: `remote(Agent, Goal, [])`.
%
% ```
% ?- bert::stock(apple, N).
%    N = 3
% ;  N = 4.
% ```
Agent::Goal :-
    remote(Agent, Goal, []).

%% remote(+Agent, ?Goal, +Options) is nondet.
%
% Solves Goal with the program and the facts of the agent named Agent, in an engine beside it; answers
% come one by one on backtracking, fetched in chunks. Goal is neither expanded nor qualified before it
% leaves. It is no part of the caller's transaction. Options: timeout(Seconds) for each chunk, and
% chunk(N), 16 by default.
%
% Errors: existence_error(agent, Agent); timeout(Agent); whatever Goal throws there.
%
% ```
% ?- remote(bert, stock(pear, N), [timeout(2.5)]).
%    N = 7.
% ?- remote(nobody, stock(pear, N), []).
%    error(existence_error(agent,nobody),remote/3).
% ```
remote(Agent, Goal, Options) :-
    must_be(atom, Agent),
    must_be_bound(Goal, remote/3),
    must_be(list, Options),
    remote_options(Options, 16, Chunk, 0, Timeout),
    host(call(Agent, Goal, Chunk, Timeout), call(Call, Answers, More)),
    (   More == false -> remote_answer(Answers, Goal)
    ;   setup_call_cleanup(true, remote_answers(Answers, Call, Goal), host_tell(call_close(Call)))
    ).

remote_options([], Chunk, Chunk, Timeout, Timeout).
remote_options([Option|Options], Chunk0, Chunk, Timeout0, Timeout) :-
    (   var(Option) -> instantiation_error(remote/3)
    ;   Option = timeout(Seconds) ->
        seconds_micros(Seconds, Micros),
        Timeout1 is Micros // 1000,
        remote_options(Options, Chunk0, Chunk, Timeout1, Timeout)
    ;   Option = chunk(N) ->
        must_be(integer, N),
        (   N >= 1, N =< 1000 -> true
        ;   domain_error(chunk, N, remote/3)
        ),
        remote_options(Options, N, Chunk, Timeout0, Timeout)
    ;   domain_error(remote_option, Option, remote/3)
    ).

remote_answers(Answers, _, Goal) :-
    remote_answer(Answers, Goal).
remote_answers(_, Call, Goal) :-
    host(call_more(Call), call(Call, Answers, More)),
    (   More == false -> remote_answer(Answers, Goal)
    ;   remote_answers(Answers, Call, Goal)
    ).

remote_answer([Answer|Answers], Goal) :-
    (   Answers == [] -> remote_solution(Answer, Goal)
    ;   remote_solution(Answer, Goal)
    ;   remote_answer(Answers, Goal)
    ).

% The error that ended the answers stands last among them.
remote_solution('@error'(Error), _) :-
    throw(Error).
remote_solution(answer(Goal, Residuals), Goal) :-
    maplist(call, Residuals).

%%%% Timers and watches.

%% after(+Seconds, +Term) is det.
%
% `on(timer(Term))` is called once, Seconds after the commit. It outlives the engine, not the node.
%
% ```
% ?- after(0.05, tick).
%    true.
% ?- after(-1, tick).
%    error(domain_error(seconds,-1),after/2).
% ```
after(Seconds, Term) :-
    seconds_micros(Seconds, Micros),
    must_be_bound(Term, after/2),
    host_tell(after(Micros, Term)).

%% every(+Seconds, +Term) is det.
%
% `on(timer(Term))` is called every so many Seconds. A timer of an equal Term is replaced.
%
% ```
% ?- every(1.0, tick).
%    true.
% ```
every(Seconds, Term) :-
    seconds_micros(Seconds, Micros),
    (   Micros >= 1000 -> true
    ;   domain_error(timer_period, Seconds, every/2)
    ),
    must_be_bound(Term, every/2),
    host_tell(every(Micros, Term)).

%% cancel(+Term) is det.
%
% Ends the timers of an equal Term.
%
% ```
% ?- cancel(tick).
%    true.
% ```
cancel(Term) :-
    must_be_bound(Term, cancel/1),
    host_tell(cancel(Term)).

seconds_micros(Seconds, Micros) :-
    (   var(Seconds) -> instantiation_error(after/2)
    ;   number(Seconds) -> true
    ;   type_error(number, Seconds, after/2)
    ),
    (   Seconds >= 0, Seconds =< 1000000000 -> Micros is round(Seconds * 1000000)
    ;   domain_error(seconds, Seconds, after/2)
    ).

%% watch(+PI) is det.
%
% `on(changed(What))` is called for each change of the facts of a replicated predicate, in the order
% of the log: What is assertz(Fact), asserta(Fact) or retract(Fact).
%
% ```
% ?- watch(account/2).
%    true.
% ```
watch(PI) :-
    watch(PI, []).

%% watch(+PI, +Options) is det.
%
% Options: `others` leaves out the agent's own changes. Errors: domain_error(watch_option, Option),
% existence_error(replicated_procedure, PI).
%
% ```
% ?- watch(account/2, [others]).
%    true.
% ?- watch(nothing/0, []).
%    error(existence_error(replicated_procedure,nothing/0),watch/1).
% ```
watch(PI, Options) :-
    must_be_replicated(PI, Name, Arity),
    must_be(list, Options),
    watch_options(Options, Others),
    host_tell(watch(Name, Arity, Others)).

watch_options([], false).
watch_options([Option|Options], Others) :-
    (   Option == others -> Others = true, watch_options(Options, _)
    ;   var(Option) -> instantiation_error(watch/2)
    ;   domain_error(watch_option, Option, watch/2)
    ).

%% unwatch(+PI) is det.
%
% Ends watch/1.
%
% ```
% ?- unwatch(account/2).
%    true.
% ```
unwatch(PI) :-
    must_be_replicated(PI, Name, Arity),
    host_tell(unwatch(Name, Arity)).

must_be_replicated(PI, Name, Arity) :-
    must_be_pi(PI, Name, Arity),
    (   replicated_pi(Name, Arity) -> true
    ;   throw(error(existence_error(replicated_procedure, Name/Arity), watch/1))
    ).

%%%% Who and where.

%% self(-Agent) is det.
%
% The agent's name, as in `on(event(_, From, _))`.
%
% ```
% ?- self(Agent).
%    Agent = anna.
% ```
self(Agent) :-
    host(self, Agent0),
    Agent = Agent0.

%% this_node(-Node) is det.
%
% The name of the node that the engine runs on.
%
% ```
% ?- this_node(Node).
%    Node = n1.
% ```
this_node(Node) :-
    host(node, Node0),
    Node = Node0.

%% space_members(-Members) is det.
%
% The members of the space: a list of member(Node, Role), where Role is voter, learner or observer.
%
% ```
% ?- space_members(Members).
%    Members = [member(n1,voter)].
% ```
space_members(Members) :-
    host(members, Members0),
    Members = Members0.

%% agent_log(+Level, +Format, +Arguments) is det.
%
% Writes a line to the agent's log, of level debug, info, warning or error, formatted as by format/2
% of library(format). Errors: domain_error(log_level, Level) and those of format/2.
%
% ```
% ?- agent_log(info, "~w has ~d", [alice, 70]).
%    true.
% ```
agent_log(Level, Format, Arguments) :-
    must_be(atom, Level),
    (   member(Level, [debug, info, warning, error]) -> true
    ;   domain_error(log_level, Level, agent_log/3)
    ),
    must_be(list, Arguments),
    synod_format(Format, Arguments, Chars),
    host_tell(log(Level, Chars)).

% library(format) is large and few programs log: it is loaded by the first call.
synod_format(Format, Arguments, Chars) :-
    (   current_module(format) -> true
    ;   use_module(library(format))
    ),
    call(format:format_(Format, Arguments), Chars, []).

%%%% Hooks. They stand last: from here on every clause that is loaded goes through them.

user:term_expansion((:- use_module(Library)), Terms) :-
    nonvar(Library),
    synod:expansion(synod:use_expansion(Library, Terms), Terms).
user:term_expansion((:- use_module(Library, Exports)), Terms) :-
    nonvar(Library),
    synod:expansion(synod:use_expansion(Library, Exports, Terms), Terms).
user:term_expansion((:- replicated(PIs)), Terms) :-
    synod:expansion(synod:replicated_expansion(PIs, Terms), Terms).
user:term_expansion((:- agent(Mode)), Terms) :-
    synod:expansion(synod:agent_expansion(Mode, Terms), Terms).
user:term_expansion((:- set_prolog_flag(Flag, Value)), Terms) :-
    synod:expansion(synod:flag_expansion(Flag, Value, Terms), Terms).
user:term_expansion(Clause, Terms) :-
    synod:replicated_clause(Clause, PI),
    synod:refuse(error(permission_error(modify, replicated_procedure, PI), load/1), Terms).

% Registers the functors whose goals are looked at for expansion at all.
user:goal_expansion(assertz(_), _) :- fail.
user:goal_expansion(asserta(_), _) :- fail.
user:goal_expansion(retract(_), _) :- fail.
user:goal_expansion(retractall(_), _) :- fail.
user:goal_expansion(abolish(_), _) :- fail.
user:goal_expansion(clause(_, _), _) :- fail.
user:goal_expansion(halt, _) :- fail.
user:goal_expansion(halt(_), _) :- fail.
user:goal_expansion(consult(_), _) :- fail.
user:goal_expansion(set_prolog_flag(_, _), _) :- fail.
