/** Bank: accounts that survive whatever is killed, and transfers that happen wholly or not at all.

Start it in one terminal:

    $ synod run examples/bank.pl

and be its customers from another:

    $ synod broadcast 'open(alice)'
    $ synod broadcast 'open(bob)'
    $ synod broadcast 'deposit(alice, 100)'
    $ synod query 'account(alice, X)'
    X = 100.
    $ synod transact 'transfer(alice, bob, 30)'
    $ synod query 'account(bob, X)'
    X = 30.
    $ synod query 'total(X)'
    X = 100.
    $ synod query 'account(nobody, X)'
    false.

Opening and depositing are events: they are handled in one order, each exactly once, and stay in the
log. A transfer is a transaction that answers whether it was done: `transfer(bob, alice, 1000)` is
`false.`, and nothing has moved.

Money is integers (cents, say). Names may be atoms, as here, while customers are few; a bank with
more of them gives them strings, `open("alice")`, which the program takes as well.
*/

:- use_module(library(error)).
:- use_module(library(lists)).
:- use_module(library(synod)).

:- replicated(account/2).       % Name, Balance

%% on(+Trigger).
%
% `open(Name)` opens an account, unless there is one; `deposit(Name, Amount)` adds to one, if there
% is one. An event that is refused, here by failing, is in the agent's log and changes nothing.
on(event(_Position, _From, open(Name))) :-
    name(Name),
    \+ account(Name, _),
    assertz(account(Name, 0)).
on(event(_Position, _From, deposit(Name, Amount))) :-
    name(Name),
    amount(Amount),
    change(Name, Amount).

%% transfer(+From, +To, +Amount).
%
% Moves money from one account to another. It is semidet: it fails, and moves nothing, when there is
% no such account or too little on it.
transfer(From, To, Amount) :-
    name(From),
    name(To),
    amount(Amount),
    Less is -Amount,
    transaction((
        change(From, Less),
        change(To, Amount)
    )).

%% total(-Sum).
%
% All the money there is. Only deposits change it.
total(Sum) :-
    findall(Balance, account(_, Balance), Balances),
    sum_list(Balances, Sum).

% Adds to a balance, which never gets negative.
change(Name, By) :-
    retract(account(Name, Balance0)),
    Balance is Balance0 + By,
    Balance >= 0,
    assertz(account(Name, Balance)).

name(Name) :-
    (   atom(Name) -> true
    ;   must_be(chars, Name)
    ).

amount(Amount) :-
    must_be(integer, Amount),
    Amount > 0.
