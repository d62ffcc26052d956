/** Native copies of replicated predicates.

An accessor whose first argument is bound calls the predicate of the same name in the module
`synod_copy`. That has one clause, which asks the host, or, while the host says so, the facts. The host
says when: an answer of its own may be preceded by `'@first'(Todo)`, and is taken after Todo is done.
*/

:- module(synod_copies, [accessor/2, uncopied/1]).

:- use_module(library(synod_host)).

% accessor(+Head, -Clause): what a replicated predicate is in the module that declares it.
accessor(Head, Clause) :-
    functor(Head, _, Arity),
    (   Arity =:= 0 -> Clause = (Head :- synod:fact(Head))
    ;   arg(1, Head, First),
        Clause = (Head :- ( nonvar(First) -> synod_copy:Head ; synod:fact(Head) ))
    ).

% uncopied(+Head): until there is a copy, it is asked of the host.
uncopied(Head) :-
    builtins:assertz(synod_copy:(Head :- synod:fact(Head))).

% do(+Todo): make(Name, Arity) and drop(Name, Arity), in order.
do([]).
do([What|Todo]) :-
    done(What),
    do(Todo).

done(make(Name, Arity)) :-
    functor(Head, Name, Arity),
    host(copy(Name, Arity), Facts),
    builtins:retractall(synod_copy:Head),
    filled(Facts).
done(drop(Name, Arity)) :-
    functor(Head, Name, Arity),
    builtins:retractall(synod_copy:Head),
    uncopied(Head).

filled(Facts) :-
    (   Facts = [Fact|Facts1] ->
        builtins:assertz(synod_copy:Fact),
        filled(Facts1)
    ;   Facts == [] -> true
    ;   host(more(Facts), Facts1),
        filled(Facts1)
    ).
