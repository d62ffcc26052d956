/** Native copies of replicated predicates.

An accessor whose first argument is bound calls the predicate of the same name in the module
`synod_copy`. That is one clause, which asks the host; or, while the host says so, the facts; or one
clause that looks in `synod_single` first, where the fact of a key that is copied and has one stands as
it is, then in `synod_keyed`, where another copied key has a clause with all its facts, and asks the host
for the others. The machine's index does not tell strings apart: those are found in `synod_text` by a
hash, and behind that as keys.

The host says when: an answer of its own may be preceded by `'@first'(Todo)`, and is taken after Todo
is done.
*/

:- module(synod_copies, [accessor/2, uncopied/1]).

:- use_module(library(synod_host)).

% accessor(+Head, -Clause): what a replicated predicate is in the module that declares it.
accessor(Head, Clause) :-
    functor(Head, _, Arity),
    (   Arity =:= 0 -> Clause = (Head :- synod:fact(Head))
    ;   arg(1, Head, First),
        Clause = (Head :- ( nonvar(First) -> synod_copy:Head ; synod:fact(Head) ))
    ).

% uncopied(+Head): until there is a copy, it is asked of the host.
uncopied(Head) :-
    builtins:assertz(synod_copy:(Head :- synod:fact(Head))).

% do(+Todo): what the host says, in order.
do([]).
do([What|Todo]) :-
    done(What),
    do(Todo).

% A copy of the whole predicate.
done(make(Name, Arity)) :-
    functor(Head, Name, Arity),
    host(copy(Name, Arity), Facts),
    builtins:retractall(synod_copy:Head),
    unkeyed(Name, Arity),
    filled(Facts).
% None.
done(drop(Name, Arity)) :-
    functor(Head, Name, Arity),
    builtins:retractall(synod_copy:Head),
    unkeyed(Name, Arity),
    uncopied(Head).
% Copies of keys, of which there are none yet.
done(keyed(Name, Arity)) :-
    functor(Head, Name, Arity),
    builtins:retractall(synod_copy:Head),
    unkeyed(Name, Arity),
    text_found(Name, Arity),
    Head =.. [Name,Key|Others],
    functor(Single, Name, Arity),
    Single =.. [Name,Key|Values],
    unified(Others, Values, Unified),
    single_found(Name, Arity),
    extended([Key|Others], [Cut], Arguments),
    Keyed =.. [Name|Arguments],
    builtins:assertz(synod_copy:(Head :-
        (   synod_single:Single -> Unified
        ;   '$get_b_value'(Cut),
            (   synod_keyed:Keyed
            ;   synod:fact(Head)
            )
        ))).
% One more fact of a whole copy.
done(add(End, Fact)) :-
    added(End, Fact).
% A key's only fact, a key's clause, and none for it any more.
done(single(Fact)) :-
    builtins:assertz(synod_single:Fact).
done(key((Head :- Body))) :-
    builtins:assertz(synod_keyed:(Head :- Body)).
done(text((Head :- Body))) :-
    builtins:assertz(synod_text:(Head :- Body)).
done(unsingle(Head)) :-
    once_retracted(synod_single, Head).
done(unkey(Head)) :-
    once_retracted(synod_keyed, Head).
done(untext(Head)) :-
    once_retracted(synod_text, Head).

added(z, Fact) :-
    builtins:assertz(synod_copy:Fact).
added(a, Fact) :-
    builtins:asserta(synod_copy:Fact).

% Binds nothing: all that is to be done shares its variables.
once_retracted(Module, Head) :-
    \+ \+ builtins:retract(Module:(Head :- _)).

% A predicate must have one clause at least, to be there. This one is of no key.
single_found(Name, Arity) :-
    functor(Dummy, Name, Arity),
    arg(1, Dummy, none),
    builtins:assertz(synod_single:(Dummy :- fail)).

% What is unified once a key's fact is chosen.
unified([], [], true).
unified([X|Xs], [Y|Ys], Unified) :-
    (   Xs == [] -> Unified = (X = Y)
    ;   Unified = (X = Y, Unified1),
        unified(Xs, Ys, Unified1)
    ).

% The clause that sends strings on. Both predicates must have one clause at least, to be there.
text_found(Name, Arity) :-
    functor(Head, Name, Arity),
    Head =.. [Name, [C|Cs]|Others],
    extended(Others, [Cut], Others1),
    Keyed =.. [Name, [C|Cs]|Others1],
    Text =.. [Name, Hash, [C|Cs]|Others1],
    Dummy =.. [Name, none, []|Others1],
    builtins:assertz(synod_text:(Dummy :- Cut = none)),
    builtins:assertz(synod_keyed:(Keyed :-
        synod_copies:hash([C|Cs], Hash),
        synod_text:Text)).

unkeyed(Name, Arity) :-
    functor(Single, Name, Arity),
    builtins:retractall(synod_single:Single),
    KeyedArity is Arity+1,
    TextArity is Arity+2,
    (   TextArity =< 255 ->
        functor(Keyed, Name, KeyedArity),
        functor(Text, Name, TextArity),
        builtins:retractall(synod_keyed:Keyed),
        builtins:retractall(synod_text:Text)
    ;   true
    ).

extended([], Ys, Ys).
extended([X|Xs], Ys, [X|Zs]) :-
    extended(Xs, Ys, Zs).

% hash(+List, -Hash) is semidet: of strings that can be keys, by their length and last characters.
hash(Chars, Hash) :-
    '$skip_max_list'(Length, 256, Chars, Tail),
    Tail == [],
    '$is_partial_string'(Chars),
    last_chars(Length, Chars, Last),
    hash(Last, Length, Hash).

last_chars(Length, Chars, Chars) :-
    Length =< 8,
    !.
last_chars(Length, Chars, Last) :-
    Skipped is Length-8,
    '$skip_max_list'(_, Skipped, Chars, Last).

hash([], Hash, Hash).
hash([C|Cs], Hash0, Hash) :-
    '$char_code'(C, Code),
    Hash1 is (Hash0*31+Code) /\ 16777215,
    hash(Cs, Hash1, Hash).

filled(Facts) :-
    (   Facts = [Fact|Facts1] ->
        builtins:assertz(synod_copy:Fact),
        filled(Facts1)
    ;   Facts == [] -> true
    ;   host(more(Facts), Facts1),
        filled(Facts1)
    ).
