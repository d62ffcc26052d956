/** Hello: the smallest agent that does something.

Start it in one terminal:

    $ synod run examples/hello.pl

and talk to it from another:

    $ synod broadcast 'hello("Ada")'

The first terminal greets Ada. What is broadcast is an event: it is in the log of the agent's space,
every agent of that space gets it, in the same order, and once, whatever is killed meanwhile.
*/

:- use_module(library(format)).
:- use_module(library(synod)).

%% on(+Trigger).
%
% What the agent does when something happens. `start` comes before all else, and again whenever the
% agent is started anew: with its node, by a restart, or because its program has changed. What is to
% happen once and for all must ask the facts whether it has.
on(start) :-
    self(Me),
    this_node(Node),
    format("I am ~q, on ~q.~n", [Me, Node]).
on(event(_Position, _From, hello(Who))) :-
    format("Hello, ~s!~n", [Who]).
