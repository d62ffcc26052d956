%%%% Transactions.

%% transaction(:Goal) is semidet.
%
% once(Goal) as one transaction of the space: succeeds, fails or throws as Goal does. It sees its own
% writes; backtracking over a write keeps it, as everywhere; if Goal fails or throws, nothing of what
% it wrote remains, clause order included. If what it read has changed before it could commit, Goal
% runs again. Inside another transaction, a handler included, it is a savepoint of that one.
%
% ```
% ?- transaction(( retract(account(alice, X)), X >= 30, Y is X-30, assertz(account(alice, Y)) )).
%    X = 100, Y = 70.
% ?- transaction(( assertz(account(carl, 1)), fail )).
%    false.
% ?- account(carl, X).
%    false.
% ```
%
% Errors: conflict(Keys) if it could not be committed within 5 s, unknown(Id) if nobody knows whether
% it was (`outcome/2` asks later), and whatever Goal throws.
transaction(Goal) :-
    transaction(Goal, []).

%% transaction(:Goal, +Options) is semidet.
%
% Options: `fresh` reads at a version that was the space's newest after the call was made. Without
% it a Goal that fails or writes nothing speaks of the version that the engine happens to be at.
% Errors: domain_error(transaction_option, Option).
%
% ```
% ?- transaction(account(alice, X), [fresh]).
%    X = 70.
% ?- transaction(true, [stale]).
%    error(domain_error(transaction_option,stale),transaction/2).
% ```
transaction(Goal, Options) :-
    must_be(list, Options),
    fresh(Options, Fresh),
    host(begin(Fresh), Where),
    (   Where = savepoint(N) ->
        attempt(Goal, Result),
        nested_end(Result, N)
    ;   repeat,
        attempt(Goal, Result),
        top_end(Result),
        !,
        ended(Result)
    ).

fresh([], false).
fresh([Option|Options], Fresh) :-
    (   Option == fresh -> Fresh = true, fresh(Options, _)
    ;   var(Option) -> instantiation_error(transaction/2)
    ;   domain_error(transaction_option, Option, transaction/2)
    ).

attempt(Goal, Result) :-
    catch(synod:attempt_(Goal, Result), Ball, Result = threw(Ball)).

attempt_(Goal, Result) :-
    (   call(Goal) -> Result = true
    ;   Result = false
    ).

nested_end(true, N) :-
    host_tell(keep(N)).
nested_end(false, N) :-
    host_tell(rollback(N)),
    fail.
nested_end(threw(Ball), N) :-
    host_tell(rollback(N)),
    throw(Ball).

% Fails when the goal is to be run again.
top_end(true) :-
    host(commit, Committed),
    Committed == true.
top_end(false) :-
    host_tell(abort).
top_end(threw(_)) :-
    host_tell(abort).

ended(true).
ended(threw(Ball)) :-
    throw(Ball).

%% linearizable(:Goal) is nondet.
%
% Goal, at a version that was the space's newest after the call was made. permission_error inside a
% transaction, whose version is fixed.
%
% ```
% ?- linearizable(account(alice, X)).
%    X = 70.
% ```
linearizable(Goal) :-
    host_tell(linearizable),
    call(Goal).

%% as_of(+Index, :Goal) is nondet.
%
% Goal, on the facts as they were when the command at Index had been applied. The answers are found
% before the first is given. Writing in Goal, and as_of/2 inside a transaction, are permission_errors;
% existence_error(index, Index) where the history does not reach.
%
% ```
% ?- as_of(3, account(alice, X)).
%    X = 100.
% ```
as_of(Index, Goal) :-
    must_be(integer, Index),
    host_tell(as_of(Index)),
    catch(findall(Goal, Goal, Goals), Ball, true),
    host_tell(as_of_end),
    (   nonvar(Ball) -> throw(Ball)
    ;   member(Goal, Goals)
    ).

%% outcome(+Id, -Outcome) is det.
%
% What became of a transaction that threw unknown(Id): committed(Index), refused or unknown. Id is a
% string of two numbers, SESSION-NUMBER, as `synod outcome` takes it, too.
% Errors: type_error(proposal_id, Id).
%
% ```
% ?- outcome("7-1", Outcome).
%    Outcome = committed(9).
% ?- outcome(seven, Outcome).
%    error(type_error(proposal_id,seven),outcome/2).
% ```
outcome(Id, Outcome) :-
    (   proposal_id(Id) -> host(fate(Id), Outcome)
    ;   type_error(proposal_id, Id, outcome/2)
    ).

proposal_id(Id) :-
    nonvar(Id),
    '$skip_max_list'(_, _, Id, Tail),
    Tail == [],
    append([S|Session], [-, N|Number], Id),
    digits([S|Session]),
    digits([N|Number]).

digits([]).
digits([Digit|Digits]) :-
    char_type(Digit, decimal_digit),
    digits(Digits).
