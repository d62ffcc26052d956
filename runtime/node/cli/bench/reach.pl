% The agent of `synod bench reach`: the same goals over facts of the space and over clauses of its own,
% plain/2, which the bench appends.

:- use_module(library(assoc)).
:- use_module(library(between)).
:- use_module(library(lists)).
:- use_module(library(synod)).

:- replicated(edge/2).      % From, To

on(event(_Position, _From, nothing)).
on(event(_Position, _From, lookup(Where, Rounds, Keys))) :-
    lookup(Where, Rounds, Keys).
on(event(_Position, _From, reach(Where, Rounds, Expected))) :-
    reach(Where, Rounds, Expected).

lookup(none, Rounds, Keys) :-
    (   between(1, Rounds, _), between(1, Keys, _), fail
    ;   true
    ).
lookup(plain, Rounds, Keys) :-
    (   between(1, Rounds, _), between(1, Keys, Key), once(plain(Key, _)), fail
    ;   true
    ).
lookup(facts, Rounds, Keys) :-
    (   between(1, Rounds, _), between(1, Keys, Key), once(edge(Key, _)), fail
    ;   true
    ).

reach(Where, Rounds, Expected) :-
    (   between(1, Rounds, _),
        \+ reaches(Where, Expected) ->
        throw(error(wrong_answer, reach/3))
    ;   true
    ).

reaches(Where, Expected) :-
    empty_assoc(Seen0),
    put_assoc(1, Seen0, true, Seen1),
    walk([1], Where, Seen1, Seen),
    assoc_to_keys(Seen, Keys),
    length(Keys, Expected).

walk([], _, Seen, Seen).
walk([Node|Nodes0], Where, Seen0, Seen) :-
    next(Where, Node, Nexts),
    unseen(Nexts, Nodes0, Nodes, Seen0, Seen1),
    walk(Nodes, Where, Seen1, Seen).

next(plain, Node, Nexts) :-
    findall(Next, plain(Node, Next), Nexts).
next(facts, Node, Nexts) :-
    findall(Next, edge(Node, Next), Nexts).

unseen([], Nodes, Nodes, Seen, Seen).
unseen([Next|Nexts], Nodes0, Nodes, Seen0, Seen) :-
    (   get_assoc(Next, Seen0, _) ->
        unseen(Nexts, Nodes0, Nodes, Seen0, Seen)
    ;   put_assoc(Next, Seen0, true, Seen1),
        unseen(Nexts, [Next|Nodes0], Nodes, Seen1, Seen)
    ).

