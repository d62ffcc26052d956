%%%% SWI-Prolog's library(udp_broadcast): the groups that the agent was started with.

%% udp_send(+Scope, +Term) is det.
%
% Sends Term to the programs that listen to a group by SWI-Prolog's `library(udp_broadcast)`, after the
% commit: what `broadcast(udp(Scope, Term))` does there. Scope is a group of the agent's `--multicast`, as
% `on(udp(Scope, From, Term))` has it: '239.0.0.2:20005'. Unordered, best effort.
%
% Errors: resource_error(sent_term_bytes) for a term of more than 65,000 bytes.
%
% ```
% ?- udp_send("239.0.0.2:20005", hello).
%    error(type_error(atom,"239.0.0.2:20005"),must_be/2).
% ?- udp_send('239.0.0.2:20005', _).
%    error(instantiation_error,udp_send/2).
% ```
udp_send(Scope, Term) :-
    must_be(atom, Scope),
    must_be_bound(Term, udp_send/2),
    host_tell(udp_send(Scope, Term)).

%% udp_request(+Scope, +Term, ?Reply) is nondet.
%
% Asks the programs that listen to a group: `udp_request(Scope, Term, Reply, [])`.
%
% ```
% ?- udp_request('239.0.0.2:20005', _, R).
%    error(instantiation_error,udp_request/4).
% ```
udp_request(Scope, Term, Reply) :-
    udp_request(Scope, Term, Reply, []).

%% udp_request(+Scope, +Term, ?Reply, +Options) is nondet.
%
% Asks the programs that listen to a group by SWI-Prolog's `library(udp_broadcast)`, as
% `broadcast_request(udp(Scope, Term))` does there. Reply is Term as one of them has solved it, the next on
% backtracking, in the order in which they come until the time is up. It is no part of a transaction.
% Options: timeout(Seconds), 0.25 by default.
%
% A program answers what is asked in its groups by clauses of `on/2`, each solution of
% `on(udp_request(Scope, From, Term), Reply)` in an engine beside the agent's.
%
% Errors: existence_error(udp_scope, Scope) if the agent was not started with that group.
%
% ```
% ?- udp_request('239.0.0.9:9', number(_), R, [timeout(0.1)]).
%    error(existence_error(udp_scope,'239.0.0.9:9'),udp_request/4).
% ?- udp_request('239.0.0.2:20005', number(_), R, [within(1)]).
%    error(domain_error(udp_option,within(1)),udp_request/4).
% ```
udp_request(Scope, Term, Reply, Options) :-
    must_be(atom, Scope),
    must_be_bound(Term, udp_request/4),
    must_be(list, Options),
    udp_options(Options, 250, Timeout),
    host(udp_request(Scope, Term, Timeout), call(Call, Answers, More)),
    (   More == false -> remote_answer(Answers, Reply)
    ;   setup_call_cleanup(true, remote_answers(Answers, Call, Reply), host_tell(call_close(Call)))
    ).

udp_options([], Timeout, Timeout).
udp_options([Option|Options], Timeout0, Timeout) :-
    (   var(Option) -> instantiation_error(udp_request/4)
    ;   Option = timeout(Seconds) ->
        seconds_micros(Seconds, Micros),
        Timeout1 is max(1, Micros // 1000),
        udp_options(Options, Timeout1, Timeout)
    ;   domain_error(udp_option, Option, udp_request/4)
    ).
