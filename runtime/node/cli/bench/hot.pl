% The agent of `synod bench lookup` when it measures copies by key: the same keys looked up among all facts,
% and in as many clauses of its own, plain/2, which the bench appends.

:- use_module(library(between)).
:- use_module(library(lists)).
:- use_module(library(synod)).

:- replicated(item/2).      % Key, N
:- replicated(sample/1).    % Key: one of those that are looked up

on(event(_Position, _From, hot(Where, Rounds))) :-
    findall(Key, sample(Key), Keys),
    hot(Where, Rounds, Keys).

hot(none, Rounds, Keys) :-
    (   between(1, Rounds, _), member(_, Keys), fail
    ;   true
    ).
hot(plain, Rounds, Keys) :-
    (   between(1, Rounds, _), member(Key, Keys), once(plain(Key, _)), fail
    ;   true
    ).
hot(facts, Rounds, Keys) :-
    (   between(1, Rounds, _), member(Key, Keys), once(item(Key, _)), fail
    ;   true
    ).

