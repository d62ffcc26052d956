% The agent of `synod bench lookup`: it looks facts up, or goes through all of them.

:- use_module(library(between)).
:- use_module(library(lists)).
:- use_module(library(synod)).

:- replicated(item/2).      % Key, N
:- replicated(sample/1).    % Key: one of those that are looked up

on(event(_Position, _From, nothing)).
on(event(_Position, _From, loop(Rounds))) :-
    findall(Key, sample(Key), Keys),
    loop(Rounds, Keys).
on(event(_Position, _From, lookup(Rounds))) :-
    findall(Key, sample(Key), Keys),
    lookup(Rounds, Keys).
on(event(_Position, _From, enumerate)) :-
    enumerate.

% What there is around the lookups.
loop(Rounds, Keys) :-
    between(1, Rounds, _),
    member(_, Keys),
    fail.
loop(_, _).

lookup(Rounds, Keys) :-
    between(1, Rounds, _),
    member(Key, Keys),
    item(Key, _),
    fail.
lookup(_, _).

enumerate :-
    item(_, _),
    fail.
enumerate.

count(Count) :-
    findall(x, item(_, _), Items),
    length(Items, Count).
