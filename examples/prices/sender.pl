/** The sending side of prices.pl, for SWI-Prolog (Debian's package swi-prolog-nox).

This is a stock program: it uses nothing of Synod, and any other that broadcasts `price(Currency,
Cents)` on the group does as well. Give it pairs of a currency and a price:

    $ swipl examples/prices/sender.pl eur 108 usd 92
*/

:- use_module(library(broadcast)).
:- use_module(library(main)).
:- use_module(library(udp_broadcast)).

:- initialization(main, main).

%!  main(+Argv) is det.
%
%   Broadcasts the prices that the command line gives, in their order.
main(Argv) :-
    (   phrase(prices(Prices), Argv)
    ->  udp_broadcast_initialize(ip(239,0,0,2), [method(multicast)]),
        forall(member(Price, Prices), broadcast(udp(subnet, Price)))
    ;   format(user_error, "usage: swipl sender.pl CURRENCY CENTS [CURRENCY CENTS]...~n", []),
        halt(2)
    ).

prices([Price|Prices]) -->
    price(Price),
    (   prices(Prices)
    ;   { Prices = [] }
    ).

price(price(Currency, Cents)) -->
    [Currency, Text],
    { atom_number(Text, Cents), integer(Cents) }.
