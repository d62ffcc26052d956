/** What a program calls, and what of it is defined nowhere.

The check pass notes the goals of every clause's body. When the program has been loaded, the machine
knows what each module defines or has imported; what was called and is neither there, nor built in,
nor declared or added to anywhere in the text, is told to the host as a warning.

Only what is surely a call is noted: goals with a module before them, goals that are variables, and
arguments of predicates that are not known to call them, are passed over. Where the program has a
term or goal expansion of its own nobody knows what it calls, and nothing is told.
*/

:- module(synod_calls, [note_clause/4, note_module/2, tell_unknown/1]).

:- use_module(library(lists), [member/2]).
:- use_module(library(synod_host)).

:- dynamic(called/5).           % File, From, To, Name, Arity
:- dynamic(known/2).            % Name, Arity: declared in the text, or clauses are added
:- dynamic(spec/3).             % Name, Arity, Spec: declared by meta_predicate/1
:- dynamic(module_of/2).        % File, Module
:- dynamic(expands/0).          % the program has expansions of its own

%% note_module(+File, +Module) is det.
note_module(File, Module) :-
    assertz(module_of(File, Module)).

%% note_clause(+Term, +File, +From, +To) is det.
%
% Notes what a term that was read between two offsets of a file calls and declares.
note_clause(Term, File, From, To) :-
    (   nonvar(Term), note(Term, p(File, From, To)), fail
    ;   true
    ).

note((:- Directive), P) :-
    !,
    nonvar(Directive),
    directive(Directive, P).
note((Head --> Body), P) :-
    !,
    expansion_head(Head),
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
        ( Head = term_expansion(_, _) ; Head = goal_expansion(_, _) ),
        \+ expands ->
        assertz(expands)
    ;   true
    ).

directive(initialization(Goal), P) :- goals(Goal, P).
directive(dynamic(PIs), _) :- declared(PIs).
directive(discontiguous(PIs), _) :- declared(PIs).
directive(multifile(PIs), _) :- declared(PIs).
directive(table(PIs), _) :- declared(PIs).
directive(replicated(PIs), _) :- declared(PIs).
directive(meta_predicate(Spec0), _) :-
    nonvar(Spec0),
    ( Spec0 = _:Spec -> true ; Spec = Spec0 ),
    callable(Spec),
    functor(Spec, Name, Arity),
    assertz(spec(Name, Arity, Spec)).

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
    Goal \= _:_,
    functor(Goal, Name, Arity),
    (   noted(Name, Arity, P)
    ;   adds(Goal, Head0), head_of(Head0, Head), functor(Head, Name1, Arity1), know(Name1, Arity1)
    ;   asks(Goal, PI), declared(PI)
    ;   arguments(Goal, Name, Arity, 0, P)
    ).

noted(Name, Arity, p(File, From, To)) :-
    atom(Name),
    \+ control(Name, Arity),
    \+ called(File, From, To, Name, Arity),
    assertz(called(File, From, To, Name, Arity)).

control(',', 2).
control((;), 2).
control('|', 2).
control((->), 2).
control('*->', 2).
control((\+), 1).
control(!, 0).
control(call, N) :- N > 0.

% The arguments that a goal calls, of which the last Extra are not there yet.
arguments(Goal, Name, Arity, Extra, P) :-
    Whole is Arity+Extra,
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
        Goal \= _:_,
        functor(Goal, Name, Arity),
        Whole is Arity+Extra,
        (   noted(Name, Whole, P)
        ;   \+ is_lambda(Name), arguments(Goal, Name, Arity, Extra, P)
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
        Head = Clause
    ).

% A program that looks whether there is a predicate knows that there may be none.
asks(current_predicate(PI), PI).
asks(predicate_property(Head0, _), Name/Arity) :-
    head_of(Head0, Head),
    functor(Head, Name, Arity).

nonterminals(Body, P) :-
    callable(Body),
    Body \= _:_,
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
    (   expands -> true
    ;   unknown(Module, _, _, _, _, _) ->
        synod_names:visible_predicates(Predicates),
        findall(Name/Arity, member(p(Name, Arity, _), Predicates), PIs),
        host_tell(names(PIs)),
        tell_each(Module)
    ;   true
    ).

tell_each(Module) :-
    (   unknown(Module, File, From, To, Name, Arity),
        host_tell(problem(warning, File, From, To, unknown(Name, Arity))),
        fail
    ;   true
    ).

unknown(Program, File, From, To, Name, Arity) :-
    called(File, From, To, Name, Arity),
    \+ known(Name, Arity),
    \+ synod_check:seen(_, Name/Arity),
    \+ '$built_in_property'(Name, Arity),
    (   module_of(File, Module) -> true
    ;   Module = Program
    ),
    \+ defines(Module, Name, Arity),
    \+ defines(user, Name, Arity).

defines(Module, Name, Arity) :-
    (   '$predicate_defined'(Module, Name, Arity) -> true
    ;   '$dynamic_property'(Module, Name, Arity)
    ).
