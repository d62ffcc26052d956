/** The host call.

A request is one term, written to `user_error` in one go; the engine's process takes it from there,
does what it asks on the same thread, and leaves the answer in an environment variable before the
write returns. Nothing is queued and nothing is kept: a call costs the same for ever. (The other way
that the machine offers, an input channel, keeps every byte that was ever sent through it.)

`@KEY@` is replaced by a name that the process draws at random before it loads this file: what a
program writes to `user_error` does not have it and goes to the agent's log, whatever else is in it.
(`user_output` would not do: `set_output/1` moves that name to another stream.)
*/

:- module(synod_host, [host/2, host_tell/1, acyclic/1]).

%% host(+Request, -Answer).
%
% Answer is what the host answers to Request, or the error that it answers is thrown. `is det`.
host(Request, Answer) :-
    host_text(Request, Chars),
    '$read_from_chars'(Chars, Answer0),     % its second argument must be a variable
    answer(Answer0, Request, Answer).

%% host_tell(+Request).
%
% For requests that answer nothing but, perhaps, an error.
host_tell(Request) :-
    host_text(Request, Chars),
    (   Chars = [k] -> true
    ;   '$read_from_chars'(Chars, Answer),
        answer(Answer, Request, _)
    ).

host_text(Request, Chars) :-
    '$write_term'(user_error, '@KEY@'(Request), true, false, true, [], 0, false),
    '$getenv'('@KEY@', Chars).

answer(Answer0, Request, Answer) :-
    (   Answer0 = '@error'(Error) -> throw(Error)
    ;   Answer0 == '@again' -> again(Answer)
    ;   Answer0 == '@cyclic' -> sure(Request, Answer)
    ;   Answer0 = '@first'(Todo) ->
        synod_copies:do(Todo),
        host('@resume', Answer)
    ;   Answer = Answer0
    ).

% The program has "..." read as something else than characters. What was to be read stands behind
% the first term, and is read as it was meant.
again(Answer) :-
    '$getenv'('@KEY@', ['\'', '@', a, g, a, i, n, '\'', '.', ' '|Chars]),
    current_prolog_flag(double_quotes, Flag),
    set_prolog_flag(double_quotes, chars),
    catch(synod_host:read_chars(Chars, Answer0), Error, true),
    set_prolog_flag(double_quotes, Flag),
    (   nonvar(Error) -> throw(Error)
    ;   answer(Answer0, again, Answer)
    ).

% The machine's own calls are none that catch/3 could make.
read_chars(Chars, Answer) :-
    '$read_from_chars'(Chars, Answer).

% There is a `...` in what was written: the atom, or what the machine writes for a cycle.
sure(Request, Answer) :-
    (   acyclic(Request) ->
        host_text('@sure'(Request), Chars),
        (   Chars = [k] -> Answer = k
        ;   '$read_from_chars'(Chars, Answer0),
            answer(Answer0, again, Answer)
        )
    ;   throw(error(representation_error(cyclic_term), synod))
    ).

%% acyclic(@Term) is semidet.
%
% True unless Term is cyclic, or nested deeper than any term that can be stored. Slow, and safe:
% acyclic_term/1 leaves terms like f([a,Y]) broken.
acyclic(Term) :-
    acyclic(Term, 0).

acyclic(Term, Depth) :-
    (   var(Term) -> true
    ;   atomic(Term) -> true
    ;   Depth < 5000,
        Depth1 is Depth+1,
        (   Term = [_|_] ->
            '$skip_max_list'(_, _, Term, Tail),
            (   var(Tail) -> true
            ;   Tail \= [_|_]
            ),
            acyclic_items(Term, Depth1)
        ;   functor(Term, _, Arity),
            acyclic_arguments(Arity, Term, Depth1)
        )
    ).

acyclic_items(Term, Depth) :-
    (   nonvar(Term), Term = [Item|Items] ->
        acyclic(Item, Depth),
        acyclic_items(Items, Depth)
    ;   acyclic(Term, Depth)
    ).

acyclic_arguments(N, Term, Depth) :-
    (   N =:= 0 -> true
    ;   arg(N, Term, Argument),
        acyclic(Argument, Depth),
        N1 is N-1,
        acyclic_arguments(N1, Term, Depth)
    ).
