/** Prices: what stock programs multicast becomes facts that last.

The other side is sender.pl, beside this file: an SWI-Prolog program that has never heard of Synod
and broadcasts on the group 239.0.0.2. Start the agent in one terminal, with the group and its port:

    $ synod run examples/prices/prices.pl --multicast 239.0.0.2:20005

then the sender in another, and ask:

    $ swipl examples/prices/sender.pl eur 108 usd 92
    $ synod query 'price(eur, P)'
    P = 108.
    $ swipl examples/prices/sender.pl eur 109
    $ synod query 'price(eur, P)'
    P = 109.

Both find the group by the machine's route to it, which is mostly the default one. To keep it on the
machine, or where there is no route at all (the sender says so), give it one of its own:

    # ip route add 239.0.0.0/8 dev lo

`239.0.0.2:20005%IF` hears it on an interface whatever the routes say: one that the senders do not
send by brings nothing.

Multicast is best effort, and a datagram that is lost is lost. Once it is an agreed fact, it is not.
*/

:- use_module(library(synod)).

:- replicated(price/2).         % Currency, Price in cents

%% on(+Trigger).
%
% The newest price of a currency takes the place of the last one. A price that is sent again, as
% senders over UDP do, writes nothing.
on(udp(_Scope, _From, price(Currency, Price))) :-
    atom(Currency),
    integer(Price),
    (   price(Currency, Price) -> true
    ;   retractall(price(Currency, _)),
        assertz(price(Currency, Price))
    ).
