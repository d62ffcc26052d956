% Stock SWI-Prologs that form a quorum, one of which sets a key again and again.
:- use_module(library(udp_broadcast)).
:- use_module(library(paxos)).
:- multifile paxos:paxos_message_hook/3.
paxos:paxos_message_hook(P, -, udp(paxos, P)) :- !.
paxos:paxos_message_hook(P, TMO, udp(paxos, P, TMO)).

say(T) :- print(T), nl, flush_output.

start(N) :-
    udp_broadcast_initialize(ip(239,0,0,2), [method(multicast), scope(paxos)]),
    paxos_initialize([node(N)]),
    say(ready).

serve(N) :- start(N), thread_get_message(never).

lead(N, Sets) :-
    start(N), quorum, set(1, 50),
    get_time(T0), set(51, Sets), get_time(T),
    Rate is (Sets - 50) / (T - T0),
    say(rate(Rate)),
    halt.

quorum :- paxos_property(quorum(Q)), popcount(Q) =:= 3, !.
quorum :- sleep(0.02), quorum.

set(From, To) :-
    forall(between(From, To, V), ( paxos_set(count, V) -> true ; say(failed(V)), halt )).
