%%%% Events and messages.

%% broadcast(+Term) is det.
%
% Total-order broadcast: Term becomes an event of the space's log when the transaction commits.
% `on(event(Position, From, Term))` is called for it in every agent of the space, this one included,
% in one order for all.
%
% ```
% ?- broadcast(open(dora)).
%    true.
% ?- broadcast(_).
%    error(instantiation_error,broadcast/1).
% ```
broadcast(Term) :-
    must_be_bound(Term, broadcast/1),
    host_tell(emit(Term)).

%% publish(+Topic, +Term) is det.
%
% Gossips Term to whoever is subscribed to the atom Topic, on any node: unordered, best effort, after the
% commit.
%
% Errors: resource_error(published_term_bytes) for a term of more than 80,000 bytes.
%
% ```
% ?- publish(prices, price(eur, 108)).
%    true.
% ```
publish(Topic, Term) :-
    must_be(atom, Topic),
    must_be_bound(Term, publish/2),
    host_tell(publish(Topic, Term)).

%% subscribe(+Topic) is det.
%
% `on(message(Topic, From, Term))` is called for what is published under the atom Topic. It outlives
% the engine; on(start) is the place for it.
%
% ```
% ?- subscribe(prices).
%    error(permission_error(perform,effect,goal),synod).
% ?- subscribe("prices").
%    error(type_error(atom,"prices"),must_be/2).
% ```
subscribe(Topic) :-
    must_be(atom, Topic),
    host_tell(subscribe(Topic)).

%% unsubscribe(+Topic) is det.
%
% Ends subscribe/1.
%
% ```
% ?- unsubscribe(prices).
%    error(permission_error(perform,effect,goal),synod).
% ```
unsubscribe(Topic) :-
    must_be(atom, Topic),
    host_tell(unsubscribe(Topic)).

%% send(+Agent, +Term) is det.
%
% Sends Term to one agent, by its name, wherever it runs: `on(sent(From, Term))`. At most once.
%
% ```
% ?- send(bert, hello).
%    true.
% ```
send(Agent, Term) :-
    must_be(atom, Agent),
    must_be_bound(Term, send/2),
    host_tell(send(Agent, Term)).

must_be_bound(Term, Context) :-
    (   var(Term) -> instantiation_error(Context)
    ;   true
    ).
