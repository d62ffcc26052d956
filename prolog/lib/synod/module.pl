/** Agents that agree.

A program that uses this library is an *agent*: it handles what happens with `on/1`, keeps what must
last as facts of its space, and is told of what others do as events in one order for all.

```
:- use_module(library(synod)).
:- replicated(account/2).

on(event(_Position, _From, open(Name))) :-
    \+ account(Name, _),
    assertz(account(Name, 0)).
```

**Facts.** The clauses of a predicate that is declared `replicated/1` are facts of the space: read
as ordinary goals, written with `assertz/1`, `asserta/1`, `retract/1`, `retractall/1`. They are known
by name and arity, without module. Calls see the logical update view of the standard.

**Transactions.** A handler is one: what it wrote and what it read become one command, which is
committed if nothing of what was read has changed since, and otherwise the handler runs again.
`transaction/1` makes one anywhere else. A write outside of any is a transaction of its own.

**Gaps.** A node keeps as much of a space's past as it was told to (`synod space retain`). An agent that has
not handled what went is given `on(gap(From, To))` in its place: the commands of index From to To are not
told of any more. What they did to the facts is there, and the events behind To follow.

**Datagrams.** What is sent to a multicast group that the agent was given (`synod run --multicast`) comes as
`on(udp(Scope, From, Term))` if SWI-Prolog's udp_broadcast sent it, else as `on(datagram(Group:Port, From,
bytes(Bs)))`: at most once, in no order. What a tunnel has put in the order of the agent's space (`synod tunnel add
--order`) comes as `on(udp(Index-N, Scope, From, Term))` or `on(datagram(Index-N, Group:Port, From, bytes(Bs)))`:
to every agent of the space, at its place among the events, exactly once, and the handler is a transaction as for
any event. Group and From are `ip(A,B,C,D)` with a port, Bs is a string of the characters 0 to 255.

**What is not guaranteed.** What a handler does outside of the facts (its output, messages, timers)
happens after the commit, once, and is lost if the node dies in between. Native clauses and the
blackboard are lost when the engine is renewed. A goal built at run time from a bare name,
`G = maplist(assertz)`, is not seen by this library: on a replicated predicate it is a
permission_error.

What is written to the facts is written by name: keys from an open set are strings or integers,
atoms are for the vocabulary of the program; money is integers.
*/

:- module(synod, [
    op(650, xfy, ::),
    transaction/1,          % :Goal
    transaction/2,          % :Goal, +Options
    broadcast/1,            % +Term
    publish/2,              % +Topic, +Term
    subscribe/1,            % +Topic
    unsubscribe/1,          % +Topic
    send/2,                 % +Agent, +Term
    (::)/2,                 % +Agent, ?Goal
    remote/3,               % +Agent, ?Goal, +Options
    udp_send/2,             % +Scope, +Term
    udp_request/3,          % +Scope, +Term, ?Reply
    udp_request/4,          % +Scope, +Term, ?Reply, +Options
    linearizable/1,         % :Goal
    as_of/2,                % +Index, :Goal
    after/2,                % +Seconds, +Term
    every/2,                % +Seconds, +Term
    cancel/1,               % +Term
    watch/1,                % +PI
    watch/2,                % +PI, +Options
    unwatch/1,              % +PI
    self/1,                 % -Agent
    this_node/1,            % -Node
    space_members/1,        % -Members
    outcome/2,              % +Id, -Outcome
    agent_log/3             % +Level, +Format, +Arguments
]).

:- use_module(library(error)).
:- use_module(library(iso_ext), [setup_call_cleanup/3]).
:- use_module(library(charsio), [char_type/2]).
:- use_module(library(lists), [append/3, member/2, maplist/2]).
:- use_module(library(synod_copies), [accessor/2, uncopied/1]).
:- use_module(library(synod_host)).

:- meta_predicate(transaction(0)).
:- meta_predicate(transaction(0, ?)).
:- meta_predicate(linearizable(0)).
:- meta_predicate(as_of(?, 0)).

:- dynamic(prepared/1).         % modules that have their expansions
:- dynamic(replicated_pi/2).    % Name, Arity
:- dynamic(imported/3).         % Name, Arity, Module: replicated, and an accessor is there
