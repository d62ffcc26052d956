/** What a program calls, and what of it is defined nowhere.

The check pass notes the goals of every clause's body. When the program has been loaded, the machine
knows what each module defines or has imported; what was called and is neither there, nor built in,
nor declared or added to anywhere in the text, is told to the host as a warning.

Only what is surely a call is noted: goals that are variables, and arguments of predicates that are not
known to call them, are passed over. A goal with a module before it is looked for in that module, if it is
there by then. What an expansion of the program's own makes of a term or a goal nobody knows before:
what one of them may take is passed over.

Told, too, is a head of on/1 that no trigger has.
*/

:- module(synod_calls, [note_clause/5, note_module/2, tell_unknown/1]).

:- use_module(library(lists), [member/2]).
:- use_module(library(synod_host)).

:- dynamic(called/7).           % From (first: it tells most), To, File, Module ([]: its own), Name, Arity, Via
:- dynamic(handles/4).          % File, From, To, Event: the head of a clause of the program's on/1
:- dynamic(known/2).            % Name, Arity: declared in the text, or clauses are added
:- dynamic(spec/3).             % Name, Arity, Spec: declared by meta_predicate/1
:- dynamic(module_of/2).        % File, Module
:- dynamic(expanded/2).         % Kind (term or goal), Pattern: what an expansion of the program takes

%% note_module(+File, +Module) is det.
note_module(File, Module) :-
    assertz(module_of(File, Module)).

%% note_clause(+Term, +Kind, +File, +From, +To) is det.
%
% Notes what a term that was read between two offsets of a file calls and declares. Kind is program for
% the program's own file.
note_clause(Term, Kind, File, From, To) :-
    (   nonvar(Term),
        \+ is_expanded(term, Term),
        (   note_trigger(Term, Kind, File, From, To)
        ;   note(Term, p(File, From, To, [], []))
        ),
        fail
    ;   true
    ).

is_expanded(Kind, Term) :-
    expanded(Kind, Pattern),
    \+ Term \= Pattern,
    !.

note_trigger(Term, program, File, From, To) :-
    ( Term = (on(Event) :- _) -> true ; Term = on(Event) ),
    nonvar(Event),
    assertz(handles(File, From, To, Event)).

% Goals are noted with p(File, From, To, Module, Via): Module is the one before the goal, [] if there is
% none; Via are the predicates whose arguments they are, which may turn out to be others of that name.
note((:- Directive), P) :-
    !,
    nonvar(Directive),
    directive(Directive, P).
note((_ --> Body), P) :-
    !,
    nonterminals(Body, P).
note((Head :- Body), P) :-
    !,
    expansion_head(Head),
    goals(Body, P).
note(Head, _) :-
    expansion_head(Head).

expansion_head(Head0) :-
    (   nonvar(Head0),
        ( Head0 = _:Head -> true ; Head = Head0 ),
        nonvar(Head),
        ( Head = term_expansion(Pattern, _), Kind = term ; Head = goal_expansion(Pattern, _), Kind = goal ) ->
        assertz(expanded(Kind, Pattern))
    ;   true
    ).

directive(initialization(Goal), P) :- goals(Goal, P).
directive(dynamic(PIs), _) :- declared(PIs).
directive(discontiguous(PIs), _) :- declared(PIs).
directive(multifile(PIs), _) :- declared(PIs).
directive(table(PIs), _) :- declared(PIs).
directive(replicated(PIs), _) :- declared(PIs).
directive(meta_predicate(Specs), _) :- specified(Specs).

specified(Specs) :-
    nonvar(Specs),
    (   ( Specs = [A|B] ; Specs = (A, B) ) -> ( specified(A) ; specified(B) )
    ;   Specs = _:Spec -> specified(Spec)
    ;   Specs \== [], callable(Specs),
        functor(Specs, Name, Arity),
        assertz(spec(Name, Arity, Specs))
    ).

declared(PIs) :-
    nonvar(PIs),
    (   ( PIs = [A|B] ; PIs = (A, B) ) -> ( declared(A) ; declared(B) )
    ;   PIs = A+_ -> declared(A)
    ;   PIs = _:A -> declared(A)
    ;   PIs = Name/Arity -> know(Name, Arity)
    ;   PIs = Name//Arity0, integer(Arity0) -> Arity is Arity0+2, know(Name, Arity)
    ).

know(Name, Arity) :-
    atom(Name),
    integer(Arity),
    \+ known(Name, Arity),
    assertz(known(Name, Arity)).

%%%% Goals. All of these succeed for each thing there is to note, or fail: what they are called for
%%%% is noted on the way.

goals(Goal, P) :-
    callable(Goal),
    (   Goal = Module:Goal1 ->
        atom(Module),
        within(Module, P, P1),
        goals(Goal1, P1)
    ;   \+ is_expanded(goal, Goal),
        functor(Goal, Name, Arity),
        (   noted(Name, Arity, P)
        ;   adds(Goal, Head0), head_of(Head0, Head), functor(Head, Name1, Arity1), know(Name1, Arity1)
        ;   asks(Goal, PI), declared(PI)
        ;   arguments(Goal, Name, Arity, 0, P)
        )
    ).

within(Module, p(File, From, To, _, Via), p(File, From, To, Module, Via)).

by(Name, Arity, P, P1) :-
    (   control(Name, Arity) -> P1 = P
    ;   P = p(File, From, To, Module, Via),
        P1 = p(File, From, To, Module, [Name/Arity|Via])
    ).

noted(Name, Arity, p(File, From, To, Module, Via)) :-
    atom(Name),
    \+ control(Name, Arity),
    \+ called(From, To, File, Module, Name, Arity, Via),
    assertz(called(From, To, File, Module, Name, Arity, Via)).

control(',', 2).
control((;), 2).
control('|', 2).
control((->), 2).
control('*->', 2).
control((\+), 1).
control(!, 0).
control(call, N) :- N > 0.

% The arguments that a goal calls, of which the last Extra are not there yet.
arguments(Goal, Name, Arity, Extra, P0) :-
    Whole is Arity+Extra,
    by(Name, Whole, P0, P),
    (   Name == catch, Whole =:= 3, expects_none(Goal) ->
        arg(3, Goal, Recovery),
        goals(Recovery, P)
    ;   Name == call -> arg(1, Goal, Closure), More is Whole-1, closure(More, Closure, P)
    ;   Name == maplist, Whole >= 2 -> arg(1, Goal, Closure), More is Whole-1, closure(More, Closure, P)
    ;   Name == foldl, Whole >= 4 -> arg(1, Goal, Closure), More is Whole-1, closure(More, Closure, P)
    ;   meta(Name, Whole, Spec),
        number_to(1, Arity, N),
        arg(N, Spec, Kind),
        arg(N, Goal, Argument),
        (   integer(Kind) -> closure(Kind, Argument, P)
        ;   Kind == (^) -> existential(Argument, P)
        ;   Kind == (//), nonvar(Argument) -> nonterminals(Argument, P)
        )
    ).

number_to(N, Last, N) :-
    N =< Last.
number_to(N0, Last, N) :-
    N0 < Last,
    N1 is N0+1,
    number_to(N1, Last, N).

meta(Name, Arity, Spec) :-
    (   spec(Name, Arity, Spec0) -> Spec = Spec0
    ;   functor(Spec, Name, Arity),
        calls(Spec)
    ).

calls((0, 0)).
calls((0 ; 0)).
calls('|'(0, 0)).
calls((0 -> 0)).
calls('*->'(0, 0)).
calls(\+(0)).
calls(once(0)).
calls(ignore(0)).
calls(forall(0, 0)).
calls(findall(?, 0, ?)).
calls(findall(?, 0, ?, ?)).
calls(bagof(?, (^), ?)).
calls(setof(?, (^), ?)).
calls(catch(0, ?, 0)).
calls(setup_call_cleanup(0, 0, 0)).
calls(call_cleanup(0, 0)).
calls(call_with_inference_limit(0, ?, ?)).
calls(call_residue_vars(0, ?)).
calls(countall(0, ?)).
calls(time(0)).
calls(freeze(?, 0)).
calls(when(?, 0)).
calls(phrase((//), ?)).
calls(phrase((//), ?, ?)).
calls(if_(1, 0, 0)).
calls(tfilter(2, ?, ?)).
calls(tpartition(2, ?, ?, ?)).
calls(transaction(0)).
calls(transaction(0, ?)).
calls(linearizable(0)).
calls(as_of(?, 0)).

closure(Extra, Goal, P) :-
    (   Extra =:= 0 -> goals(Goal, P)
    ;   callable(Goal),
        (   Goal = Module:Goal1 ->
            atom(Module),
            within(Module, P, P1),
            closure(Extra, Goal1, P1)
        ;   functor(Goal, Name, Arity),
            Whole is Arity+Extra,
            (   noted(Name, Whole, P)
            ;   \+ is_lambda(Name), arguments(Goal, Name, Arity, Extra, P)
            )
        )
    ).

is_lambda('\\').
is_lambda('+\\').
is_lambda('^').

existential(Goal, P) :-
    nonvar(Goal),
    (   Goal = _^Goal1 -> existential(Goal1, P)
    ;   goals(Goal, P)
    ).

% catch/3 that waits for a missing procedure: there may be none.
expects_none(Goal) :-
    arg(2, Goal, Catcher),
    nonvar(Catcher),
    Catcher = error(Formal, _),
    nonvar(Formal),
    Formal = existence_error(_, _).

adds(assertz(Clause), Clause).
adds(asserta(Clause), Clause).
adds(retractall(Head), Head).

head_of(Clause, Head) :-
    nonvar(Clause),
    (   Clause = _:Clause1 -> head_of(Clause1, Head)
    ;   Clause = (Clause1 :- _) -> head_of(Clause1, Head)
    ;   callable(Clause),
        Head = Clause,
        % Whoever adds expansions at run time may have anything expanded.
        (   Head = term_expansion(_, _) -> assertz(expanded(term, _))
        ;   Head = goal_expansion(_, _) -> assertz(expanded(goal, _))
        ;   true
        )
    ).

% A program that looks whether there is a predicate knows that there may be none.
asks(current_predicate(PI), PI).
asks(predicate_property(Head0, _), Name/Arity) :-
    head_of(Head0, Head),
    functor(Head, Name, Arity).

nonterminals(Body, P) :-
    callable(Body),
    Body \= _:_,
    \+ is_expanded(goal, Body),
    (   ( Body = (A, B) ; Body = (A ; B) ; Body = (A -> B) ; Body = '|'(A, B) ) ->
        ( nonterminals(A, P) ; nonterminals(B, P) )
    ;   Body = (\+ A) -> nonterminals(A, P)
    ;   Body = {Goal} -> goals(Goal, P)
    ;   ( Body = [_|_] ; Body == [] ; Body == {} ; Body == ! ) -> fail
    ;   functor(Body, Name, Arity),
        (   Name == call, Arity > 0 ->
            arg(1, Body, Closure),
            Extra is Arity+1,
            closure(Extra, Closure, P)
        ;   Name == phrase, Arity > 0 -> fail
        ;   Whole is Arity+2,
            noted(Name, Whole, P)
        )
    ).

%%%% What is unknown.

%% tell_unknown(+Module) is det.
%
% Module is the program's. To be called when it has been loaded.
tell_unknown(Module) :-
    findall(
        u(File, From, To, Where, Name, Arity),
        unknown(Module, File, From, To, Where, Name, Arity),
        Unknown0
    ),
    sort(Unknown0, Unknown),
    (   Unknown == [] -> true
    ;   synod_names:visible_predicates(Predicates),
        findall(Name/Arity, member(p(Name, Arity, _), Predicates), PIs),
        host_tell(names(PIs)),
        tell_each(Unknown)
    ),
    tell_triggers.

tell_each(Unknown) :-
    (   member(u(File, From, To, Where, Name, Arity), Unknown),
        (   Where == [] -> What = unknown(Name, Arity)
        ;   module_names(Where, PIs),
            What = unknown(Where, Name, Arity, PIs)
        ),
        host_tell(problem(warning, File, From, To, What)),
        fail
    ;   true
    ).

module_names(Module, PIs) :-
    '$get_db_refs'(Module, _, _, PIs0),
    findall(Name/Arity, ( member(Name/Arity, PIs0), defines(Module, Name, Arity) ), PIs).

unknown(Program, File, From, To, Where, Name, Arity) :-
    called(From, To, File, Where, Name, Arity, Via),
    \+ known(Name, Arity),
    \+ '$built_in_property'(Name, Arity),
    \+ ( member(PI, Via), is_other(PI) ),
    (   Where == [] ->
        \+ synod_check:seen(_, Name/Arity),
        (   module_of(File, Module) -> true
        ;   Module = Program
        )
    ;   is_loaded(Where),
        Module = Where
    ),
    \+ defines(Module, Name, Arity),
    \+ defines(user, Name, Arity).

% A module that is only named in a goal is there, too, and empty.
is_loaded(Module) :-
    '$module_exists'(Module),
    '$get_db_refs'(Module, _, _, PIs),
    member(Name/Arity, PIs),
    defines(Module, Name, Arity),
    !.

% A predicate of the program that has the name of one which calls its arguments, and does not say that it
% does.
is_other(Name/Arity) :-
    synod_check:seen(_, Name/Arity),
    \+ spec(Name, Arity, _).

defines(Module, Name, Arity) :-
    (   '$predicate_defined'(Module, Name, Arity) -> true
    ;   '$dynamic_property'(Module, Name, Arity)
    ).

%%%% Triggers.

% A program that calls on/1 itself has it for more than triggers.
tell_triggers :-
    (   called(_, _, _, _, on, 1, _) -> true
    ;   handles(File, From, To, Event),
        \+ is_trigger(Event),
        (   callable(Event) -> functor(Event, Name, Arity)
        ;   Name = Event, Arity = 0
        ),
        host_tell(problem(warning, File, From, To, no_trigger(Name, Arity))),
        fail
    ;   true
    ).

is_trigger(start).
is_trigger(engine).
is_trigger(event(_, _, _)).
is_trigger(changed(_)).
is_trigger(timer(_)).
is_trigger(message(_, _, _)).
is_trigger(sent(_, _)).
is_trigger(udp(_, _, _)).
is_trigger(datagram(_, _, _)).
is_trigger(udp(_, _, _, _)).
is_trigger(datagram(_, _, _, _)).
is_trigger(gap(_, _)).
