% The agent of `synod bench transact` and `synod bench update`: it keeps totals.

:- use_module(library(lists)).
:- use_module(library(synod)).

:- replicated(total/2).     % Key, Sum

on(event(_Position, _From, add(Key, N))) :-
    (   retract(total(Key, Sum0)) -> true
    ;   Sum0 = 0
    ),
    Sum is Sum0 + N,
    assertz(total(Key, Sum)).

% Sum is all that has been added: what is measured is also right.
sum(Sum) :-
    findall(N, total(_, N), Ns),
    sum_list(Ns, Sum).
