/** Counter: a number that many change at once and nobody miscounts.

Start it in one terminal:

    $ synod run examples/counter.pl

and count from another, or from ten at a time:

    $ synod transact 'increment("visits", N)'
    N = 1.
    $ synod transact 'increment("visits", N)'
    N = 2.
    $ synod broadcast 'visit("visits")'
    $ synod query 'count("visits", N)'
    N = 3.

Each increment is a transaction: two that read the same number cannot both be committed, and the one
that comes second is run again. The first terminal prints each number as it is agreed on.

A counter's name is a string, since anybody may think of new ones; atoms are for the words that a
program itself is made of.
*/

:- use_module(library(error)).
:- use_module(library(format)).
:- use_module(library(synod)).

:- replicated(count/2).     % Name, Number

%% on(+Trigger).
%
% An event `visit(Name)` increments; what any agent or client changes is printed.
on(start) :-
    watch(count/2).
on(event(_Position, _From, visit(Name))) :-
    increment(Name, _).
on(changed(assertz(count(Name, N)))) :-
    format("~s: ~d~n", [Name, N]).

%% increment(+Name, -N).
%
% Adds one to the counter of this name, which starts at 0; N is the sum. It is det.
increment(Name, N) :-
    must_be(chars, Name),
    transaction((
        (   retract(count(Name, N0)) -> true
        ;   N0 = 0
        ),
        N is N0 + 1,
        assertz(count(Name, N))
    )).
