/** The engine's main loop: loads the program, then handles triggers or solves goals.

Both loops are failure-driven, which gives the heap back at each turn: the machine has no garbage
collector. Nothing that a turn leaves may be needed by the next one; what must be kept is with the
host.
*/

:- module(synod_engine, [main/0]).

:- use_module(library(iso_ext), [call_residue_vars/2, call_with_inference_limit/3, copy_term/3]).
:- use_module(library(lists), [append/2, append/3, member/2]).
:- use_module(library(synod_calls)).
:- use_module(library(synod_check)).
:- use_module(library(synod_host)).

:- dynamic(dispatch/1).         % +Event: calls the program's on/1
:- dynamic(program_module/1).

%% main is det.
%
% Runs until the host says stop.
main :-
    % The loader prints errors instead of throwing them until this is there.
    assertz('$toplevel':started),
    host(start, start(File, Role, Inferences)),
    (   load_program(File) ->
        serve(Role, Inferences)
    ;   true
    ).

load_program(File) :-
    check_program(File, Module),
    host(checked, true),
    use_program(File, Ball),
    used(Ball, Module).

% Ball is what loading threw; unbound if all went well.
use_program(File, Ball) :-
    catch(synod_engine:use_program(File), Ball, true).

use_program(File) :-
    open_program(File, Stream, IsMarked),
    (   IsMarked == true -> use_stream(Stream, File)
    ;   close(Stream),
        use_module(File)
    ),
    !.
use_program(_) :-
    throw(cannot_be_loaded).

% What use_module/1 does, behind a byte order mark, which the loader does not know.
use_stream(Stream, File) :-
    '$push_load_state_payload'(Evacuable),
    loader:file_load(Stream, File, Loaded),
    '$use_module'(Evacuable, Loaded, []).

% One thing a clause: the machine's compiler loses variables that first occur in a branch.
used(Ball, _) :-
    nonvar(Ball),
    !,
    tell_thrown(Ball),
    host_tell(not_loaded),
    fail.
used(_, Module) :-
    assertz(program_module(Module)),
    dispatched(Module),
    tell_datagrams(Module),
    tell_unknown(Module),
    host(loaded, true).

% What the loader stopped at, by its place.
tell_thrown(Ball) :-
    (   nonvar(Ball), Ball = error(Formal, _), nonvar(Formal), Formal = domain_error(directive, PI) ->
        What = no_directive(PI)
    ;   ball_chars(Ball, Chars),
        What = thrown(Chars)
    ),
    (   loading_place(File, From) -> host_tell(problem(error, File, From, From, What))
    ;   host_tell(refused(What))
    ).

dispatched(Module) :-
    (   synod_check:handler_head(_) -> assertz((dispatch(Event) :- Module:on(Event)))
    ;   true
    ).

% Datagrams that are events may come by the ten thousand: who surely has no clause for them is not handed any.
tell_datagrams(Module) :-
    (   may_handle_datagrams(Module) -> host_tell(datagrams(true))
    ;   true
    ).

may_handle_datagrams(_) :-
    (   synod_check:handler_head(datagram(_, _, _, _)) -> true
    ;   synod_check:handler_head(udp(_, _, _, _)) -> true
    ;   synod_calls:expanded(term, _)
    ).
may_handle_datagrams(Module) :-
    '$dynamic_property'(Module, on, 1).

serve(agent, Inferences) :-
    repeat,
    host(next, Events),
    handle_all(Events, Inferences),
    !.
serve(side, Inferences) :-
    repeat,
    host(next_goal, Goal),
    solve(Goal, Inferences),
    !.

%%%% Triggers.

% Fails after a batch, succeeds at the end.
handle_all(stop, _).
handle_all([Event|Events], Inferences) :-
    member(E, [Event|Events]),
    handle(E, Inferences),
    fail.

handle(Event, Inferences) :-
    catch(synod_engine:run(Inferences, Event, Result), Ball, Result = threw(Ball)),
    handled(Result, Event).

run(0, Event, Result) :-
    (   dispatch(Event) -> Result = ok
    ;   Result = no
    ).
run(Inferences, Event, Result) :-
    Inferences > 0,
    call_with_inference_limit(synod_engine:run(0, Event, Result0), Inferences, Limit),
    (   Limit == inference_limit_exceeded -> host_tell(inferences)
    ;   Result = Result0
    ).

handled(ok, _) :-
    host_tell(done).
handled(no, Event) :-
    (   synod_check:handler_head(Event) -> host_tell(failed)
    ;   host_tell(skipped)
    ).
handled(threw(Ball), _) :-
    ball_chars(Ball, Chars),
    host_tell(threw(Chars)).

%%%% Goals.

solve(stop, _).
solve(goal(Kind, File), Inferences) :-
    read_goal(File, Goal, Names),
    solve(Kind, Goal, Names, Inferences).
solve(call(Goal), Inferences) :-
    solve(call, Goal, [], Inferences).
solve(goal(_, _), _) :-
    host_tell(goal_end),
    fail.
solve(call(_), _) :-
    host_tell(goal_end),
    fail.

solve(Kind, Goal0, Names, Inferences) :-
    program_module(Module),
    expanded(Kind, Goal0, Module, Goal),
    '$get_b_value'(B0),
    catch(call_residue_vars(synod_engine:limited(Inferences, Goal), Constrained), Ball, true),
    '$get_b_value'(B),
    openness(B0, B, Open),
    solved(Ball, Kind, Goal0, Names, Constrained, Open, Continue),
    Continue \== true,
    !,
    fail.

openness(B0, B, Open) :-
    (   B0 == B -> Open = false
    ;   Open = true
    ).

% Continue is true if the goal is to be asked for a further answer.
solved(Ball, _, _, _, _, _, false) :-
    nonvar(Ball),
    !,
    ball_chars(Ball, Chars),
    threw(Ball, Chars).
solved(_, Kind, Goal, Names, Constrained, Open, Continue) :-
    catch(
        synod_engine:answer(Kind, Goal, Names, Constrained, Open, Continue0),
        Ball,
        synod_engine:untold(Ball, Continue0)
    ),
    Continue = Continue0.

% An answer that is too large to be told ends its goal, as an error.
untold(Ball, false) :-
    ball_chars(Ball, Chars),
    threw(Ball, Chars).

threw(Ball, Chars) :-
    (   acyclic(Ball) -> host_tell(goal_threw(Chars, Ball))
    ;   host_tell(goal_threw(Chars))
    ).

limited(Inferences, Goal) :-
    (   Inferences =:= 0 -> call(Goal)
    ;   call_with_inference_limit(Goal, Inferences, Limit),
        (   Limit == inference_limit_exceeded -> host_tell(inferences)
        ;   true
        )
    ).

expanded(Kind, Goal0, Module, Goal) :-
    (   Kind == transact -> Goal = synod:transaction(Module:Goal1, [fresh])
    ;   Goal = Module:Goal1
    ),
    (   callable(Goal0) -> loader:expand_goal(Goal0, Module, Goal1)
    ;   Goal1 = Goal0
    ).

answer(call, Goal, _, Constrained, Open, Continue) :-
    !,
    copy_term([Goal|Constrained], [Goal1|_], Residuals),
    host(answer_term(Open, answer(Goal1, Residuals)), Continue).
answer(_, _, Names, Constrained, Open, Continue) :-
    '$toplevel':gather_query_vars(Names, Vars0),
    variables(Vars0, Vars1),
    catch('$project_atts':project_attributes(Vars1, Constrained), _, true),
    copy_term([Vars1, Constrained], [Vars1, Constrained], Residuals),
    '$toplevel':gather_equations(Names, Vars0, Equations),
    variables(Equations+Residuals, Vars),
    fabricate(Vars, 0, Names, AllNames),
    bindings(Equations, AllNames, Bindings, Texts0),
    residual_texts(Residuals, AllNames, Texts1),
    append(Texts0, Texts1, Texts),
    conjunction(Texts, Text),
    host(answer(Open, Text, Bindings, Texts1), Continue).

bindings([], _, [], []).
bindings([Name=Value|Equations], Names, [b(NameChars, ValueText, Term)|Bindings], [Text|Texts]) :-
    atom_chars(Name, NameChars),
    (   var(Value) -> others(Name, Names, Names1)
    ;   Names1 = Names
    ),
    term_chars(Value, Names1, ValueText0),
    (   '$toplevel':needs_bracketing(Value, =) -> append(["(", ValueText0, ")"], ValueText)
    ;   ValueText = ValueText0
    ),
    append([NameChars, " = ", ValueText], Text),
    (   acyclic(Value) -> Term = t(Value)
    ;   Term = cyclic
    ),
    bindings(Equations, Names, Bindings, Texts).

% A variable that is equal to another is shown by the other's name.
others(Name, [N=V|Names], Others) :-
    (   N == Name -> Others = Names
    ;   Others = [N=V|Others1],
        others(Name, Names, Others1)
    ).
others(_, [], []).

residual_texts([], _, []).
residual_texts([Goal|Goals], Names, [Text|Texts]) :-
    term_chars(Goal, Names, Text),
    residual_texts(Goals, Names, Texts).

conjunction([], "true").
conjunction([Text|Texts], Chars) :-
    (   Texts == [] -> Chars = Text
    ;   conjunction(Texts, Chars1),
        append([Text, ", ", Chars1], Chars)
    ).

%%%% Text.

% Numbers variables that have no name _A, _B, …, as the toplevel does.
fabricate([], _, Names, Names).
fabricate([Var|Vars], N, Names0, Names) :-
    (   member(_=V, Names0), V == Var -> fabricate(Vars, N, Names0, Names)
    ;   charsio:fabricate_var_name(fabricated, Name, N),
        N1 is N + 1,
        (   member(Name0=_, Names0), Name0 == Name -> fabricate([Var|Vars], N1, Names0, Names)
        ;   append(Names0, [Name=Var], Names1),
            fabricate(Vars, N1, Names1, Names)
        )
    ).

% The variables of a term. term_variables/2 takes [a,Y] for ground.
variables(Term, Vars) :-
    (   acyclic(Term) -> variables(Term, [], Vars0), reversed(Vars0, [], Vars)
    ;   Vars = []
    ).

variables(Term, Vars0, Vars) :-
    (   var(Term) ->
        (   known(Vars0, Term) -> Vars = Vars0
        ;   Vars = [Term|Vars0]
        )
    ;   Term = [Head|Tail] ->
        variables(Head, Vars0, Vars1),
        variables(Tail, Vars1, Vars)
    ;   compound(Term) ->
        Term =.. [_|Arguments],
        all_variables(Arguments, Vars0, Vars)
    ;   Vars = Vars0
    ).

all_variables([], Vars, Vars).
all_variables([Term|Terms], Vars0, Vars) :-
    variables(Term, Vars0, Vars1),
    all_variables(Terms, Vars1, Vars).

known([V|Vs], Var) :-
    (   V == Var -> true
    ;   known(Vs, Var)
    ).

reversed([], Ys, Ys).
reversed([X|Xs], Ys0, Ys) :-
    reversed(Xs, [X|Ys0], Ys).

term_chars(Term, Names, Chars) :-
    '$write_term_to_chars'(Chars, Term, false, true, true, Names, 0, true).

ball_chars(Ball, Chars) :-
    variables(Ball, Vars),
    fabricate(Vars, 0, [], Names),
    term_chars(Ball, Names, Chars).
