/** The predicates that a program sees, for whoever completes names. */

:- module(synod_names, [visible_predicates/1]).

:- use_module(library(lists), [member/2]).

%% visible_predicates(-Predicates) is det.
%
% A list of p(Name, Arity, IsReplicated): what the program's module defines or has imported, and what
% is built in.
visible_predicates(Predicates) :-
    synod_engine:program_module(Module),
    '$get_db_refs'(Module, _, _, PIs),
    findall(
        p(Name, Arity, IsReplicated),
        visible(PIs, Module, Name, Arity, IsReplicated),
        Predicates
    ).

visible(PIs, Module, Name, Arity, IsReplicated) :-
    (   member(Name/Arity, PIs),
        % Not one that is only called.
        synod_calls:defines(Module, Name, Arity)
    ;   built_in(PIs1),
        member(Name/Arity, PIs1)
    ),
    \+ sub_atom(Name, 0, 1, _, '$'),
    \+ hook(Name, Arity),
    (   synod:replicated_pi(Name, Arity) -> IsReplicated = true
    ;   IsReplicated = false
    ).

hook(goal_expansion, 2).
hook(term_expansion, 2).

% The machine does not tell the names of its built-in predicates; it only knows each when asked.
built_in([
    abolish/1, acyclic_term/1, arg/3, asserta/1, assertz/1, at_end_of_stream/0, at_end_of_stream/1,
    atom/1, atom_chars/2, atom_codes/2, atom_concat/3, atom_length/2, atomic/1, bagof/3, call/1,
    callable/1, catch/3, char_code/2, clause/2, close/1, close/2, compare/3, compound/1, copy_term/2,
    current_input/1, current_op/3, current_output/1, current_predicate/1, current_prolog_flag/2,
    fail/0, false/0, findall/3, findall/4, float/1, flush_output/0, flush_output/1, functor/3,
    get_byte/1, get_byte/2, get_char/1, get_char/2, get_code/1, get_code/2, ground/1, halt/0, halt/1,
    integer/1, keysort/2, nl/0, nl/1, nonvar/1, number/1, number_chars/2, number_codes/2,
    once/1, op/3, open/3, open/4, peek_byte/1, peek_byte/2, peek_char/1, peek_char/2, peek_code/1,
    peek_code/2, put_byte/1, put_byte/2, put_char/1, put_char/2, put_code/1, put_code/2, rational/1,
    read/1, read/2, read_term/2, read_term/3, repeat/0, retract/1, retractall/1, set_input/1,
    set_output/1, set_prolog_flag/2, set_stream_position/2, setof/3, sort/2, stream_property/2,
    sub_atom/5, subsumes_term/2, term_variables/2, throw/1, true/0, unify_with_occurs_check/2, var/1,
    write/1, write/2, write_canonical/1, write_canonical/2, write_term/2, write_term/3, writeq/1,
    writeq/2
]).
