% The agent of `synod bench transact --nodes N`: every node has an instance, and each counts what it hears,
% under keys of its own or all of them under one.

:- use_module(library(lists)).
:- use_module(library(synod)).

:- agent(each).
:- replicated(total/2).     % key(Node, Key) or hot, Sum

on(event(_Position, _From, own(Key))) :-
    this_node(Node),
    count(key(Node, Key)).
on(event(_Position, _From, hot(_))) :-
    count(hot).

count(Key) :-
    (   retract(total(Key, Sum0)) -> true
    ;   Sum0 = 0
    ),
    Sum is Sum0 + 1,
    assertz(total(Key, Sum)).

% Sum is all that was counted: what is measured is also right.
sum(own, Sum) :-
    findall(N, total(key(_, _), N), Ns),
    sum_list(Ns, Sum).
sum(hot, Sum) :-
    total(hot, Sum).
