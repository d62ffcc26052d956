%%%% Timers and watches.

%% after(+Seconds, +Term) is det.
%
% `on(timer(Term))` is called once, Seconds after the commit. It outlives the engine, not the node.
% Timers, watches and subscriptions are the agent's own: a goal that is solved beside it (a query, a
% transaction from outside, `Agent::Goal`) may set none.
%
% ```
% ?- after(0.05, tick).
%    error(permission_error(perform,effect,goal),synod).
% ?- after(-1, tick).
%    error(domain_error(seconds,-1),after/2).
% ```
after(Seconds, Term) :-
    seconds_micros(Seconds, Micros),
    must_be_bound(Term, after/2),
    host_tell(after(Micros, Term)).

%% every(+Seconds, +Term) is det.
%
% `on(timer(Term))` is called every so many Seconds. A timer of an equal Term is replaced.
%
% ```
% ?- every(1.0, tick).
%    error(permission_error(perform,effect,goal),synod).
% ```
every(Seconds, Term) :-
    seconds_micros(Seconds, Micros),
    (   Micros >= 1000 -> true
    ;   domain_error(timer_period, Seconds, every/2)
    ),
    must_be_bound(Term, every/2),
    host_tell(every(Micros, Term)).

%% cancel(+Term) is det.
%
% Ends the timers of an equal Term.
%
% ```
% ?- cancel(tick).
%    error(permission_error(perform,effect,goal),synod).
% ```
cancel(Term) :-
    must_be_bound(Term, cancel/1),
    host_tell(cancel(Term)).

seconds_micros(Seconds, Micros) :-
    (   var(Seconds) -> instantiation_error(after/2)
    ;   number(Seconds) -> true
    ;   type_error(number, Seconds, after/2)
    ),
    (   Seconds >= 0, Seconds =< 1000000000 -> Micros is round(Seconds * 1000000)
    ;   domain_error(seconds, Seconds, after/2)
    ).

%% watch(+PI) is det.
%
% `on(changed(What))` is called for each change of the facts of a replicated predicate, in the order
% of the log: What is assertz(Fact), asserta(Fact) or retract(Fact).
%
% ```
% ?- watch(account/2).
%    error(permission_error(perform,effect,goal),synod).
% ```
watch(PI) :-
    watch(PI, []).

%% watch(+PI, +Options) is det.
%
% Options: `others` leaves out the agent's own changes. Errors: domain_error(watch_option, Option),
% existence_error(replicated_procedure, PI).
%
% ```
% ?- watch(account/2, [others]).
%    error(permission_error(perform,effect,goal),synod).
% ?- watch(nothing/0, []).
%    error(existence_error(replicated_procedure,nothing/0),watch/1).
% ```
watch(PI, Options) :-
    must_be_replicated(PI, Name, Arity),
    must_be(list, Options),
    watch_options(Options, Others),
    host_tell(watch(Name, Arity, Others)).

watch_options([], false).
watch_options([Option|Options], Others) :-
    (   Option == others -> Others = true, watch_options(Options, _)
    ;   var(Option) -> instantiation_error(watch/2)
    ;   domain_error(watch_option, Option, watch/2)
    ).

%% unwatch(+PI) is det.
%
% Ends watch/1.
%
% ```
% ?- unwatch(account/2).
%    error(permission_error(perform,effect,goal),synod).
% ```
unwatch(PI) :-
    must_be_replicated(PI, Name, Arity),
    host_tell(unwatch(Name, Arity)).

must_be_replicated(PI, Name, Arity) :-
    must_be_pi(PI, Name, Arity),
    (   replicated_pi(Name, Arity) -> true
    ;   throw(error(existence_error(replicated_procedure, Name/Arity), watch/1))
    ).
