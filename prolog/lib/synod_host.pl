/** The host call.

A request is one term, written to `user_error` in one go; the engine's process takes it from there,
does what it asks on the same thread, and leaves the answer in an environment variable before the
write returns. Nothing is queued and nothing is kept: a call costs the same for ever. (The other way
that the machine offers, an input channel, keeps every byte that was ever sent through it.)

`@KEY@` is replaced by a name that the process draws at random before it loads this file: what a
program writes to `user_error` does not have it and goes to the agent's log, whatever else is in it.
(`user_output` would not do: `set_output/1` moves that name to another stream.)
*/

:- module(synod_host, [host/2, host_tell/1]).

%% host(+Request, -Answer).
%
% Answer is what the host answers to Request, or the error that it answers is thrown. `is det`.
% A cyclic term is representation_error(cyclic_term): it would be written as `f(...)`.
host(Request, Answer) :-
    host_text(Request, Chars),
    '$read_from_chars'(Chars, Answer0),     % its second argument must be a variable
    checked(Answer0, Answer).

% Throws an error that was answered.
checked(Answer0, Answer) :-
    (   Answer0 = '@error'(Error) -> throw(Error)
    ;   Answer0 == '@again' ->
        '$getenv'('@KEY@', Chars),
        again(Chars, Answer1),
        checked(Answer1, Answer)
    ;   Answer = Answer0
    ).

% The program has "..." read as something else than characters. What was to be read stands behind
% the first term, and is read as it was meant.
again(['\'', '@', a, g, a, i, n, '\'', '.', ' '|Chars], Answer) :-
    current_prolog_flag(double_quotes, Flag),
    set_prolog_flag(double_quotes, chars),
    catch(synod_host:read_chars(Chars, Answer), Error, true),
    set_prolog_flag(double_quotes, Flag),
    (   nonvar(Error) -> throw(Error)
    ;   true
    ).

%% host_tell(+Request).
%
% For requests that answer nothing but, perhaps, an error.
host_tell(Request) :-
    host_text(Request, Chars),
    (   Chars = [k] -> true
    ;   '$read_from_chars'(Chars, Answer),
        checked(Answer, _)
    ).

% The machine's own calls are none that catch/3 could make.
read_chars(Chars, Answer) :-
    '$read_from_chars'(Chars, Answer).

% The answer's text.
host_text(Request, Chars) :-
    (   acyclic_term(Request) -> true
    ;   throw(error(representation_error(cyclic_term), host/2))
    ),
    '$write_term'(user_error, '@KEY@'(Request), true, false, true, [], 0, false),
    '$getenv'('@KEY@', Chars).
