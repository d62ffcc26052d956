/** The check pass: reads a program before it is loaded.

The loader stops at the first error and knows neither its line nor its column. This pass reads every
clause of the file, and of the files that it uses, and tells the host of everything that is wrong:
syntax errors, with the offsets where the clause began and where the reader gave up; singleton
variables; clauses of one predicate that stand apart, of which the loader would keep the last group
only. It obeys `op/3` and the operators that modules export. It changes nothing but operators and
which libraries are loaded.

The same reading serves the text of queries, whose operators are known only after the program is
loaded.
*/

:- module(synod_check, [
    check_program/2,        % +File, -Module
    loading_place/2,        % -File, -Offset
    open_program/3,         % +File, -Stream, -IsMarked
    read_goal/3             % +File, -Goal, -VariableNames
]).

:- use_module(library(error)).
:- use_module(library(iso_ext), [bb_get/2, bb_put/2]).
:- use_module(library(lists), [member/2]).
:- use_module(library(synod_calls)).
:- use_module(library(synod_host)).

:- dynamic(checked/1).          % File
:- dynamic(seen/2).             % File, PI: clauses of it were read
:- dynamic(apart/2).            % File, PI: declared discontiguous
:- dynamic(handler_head/1).     % Event: on(Event) is the head of a clause of the program
:- dynamic(replicates/1).       % PI
:- dynamic(uses_synod/0).       % library(synod) has been used so far
:- dynamic(directive/4).        % File, From, To, Directive: with the offsets between which it stands

%% check_program(+File, -Module) is det.
%
% Module is the one that the file declares, else user. Problems go to the host.
check_program(File, Module) :-
    bb_put(synod_module, user),
    bb_put(synod_marked, none),
    check_file(File, program),
    bb_get(synod_module, Module).

check_file(File, Kind) :-
    (   checked(File) -> true
    ;   assertz(checked(File)),
        catch(synod_check:open_program(File, Stream, IsMarked), Error, true),
        (   nonvar(Error) ->
            host_tell(problem(error, File, 0, 0, cannot_open))
        ;   bb_put(synod_previous, []),
            (   IsMarked == true, Kind == used -> host_tell(problem(error, File, 0, 0, marked))
            ;   true
            ),
            check_clauses(Stream, File, Kind),
            close(Stream)
        )
    ).

%% open_program(+File, -Stream, -IsMarked) is det.
%
% Opens a file behind its byte order mark, if it has one. The machine's peek_char/2 shows the mark; its
% get_char/2 would take the next character, too.
open_program(File, Stream, IsMarked) :-
    open(File, read, Stream, [reposition(true)]),
    (   catch(peek_char(Stream, Char), _, fail), Char \== end_of_file, char_code(Char, 0xfeff) ->
        set_stream_position(Stream, position_and_lines_read(3, 0)),
        IsMarked = true
    ;   IsMarked = false
    ).

% Failure-driven, so that the clauses that have been read are given up. What remains is in facts.
check_clauses(Stream, File, Kind) :-
    repeat,
    check_next(Stream, File, Kind, End),
    End == true,
    !.

check_next(Stream, File, Kind, End) :-
    (   next_term(Stream, Term, Names, Singletons, From, To, Error) ->
        (   nonvar(Error) ->
            tell_operators,
            host_tell(problem(error, File, From, To, Error)),
            skip_clause(Stream),
            position(Stream, Behind),
            (   Behind > From -> End = false
            ;   End = true
            )
        ;   End = false,
            check_singletons(Singletons, File, From, To),
            note_clause(Term, Kind, File, From, To),
            note_directive(Term, File, From, To),
            check_term(Term, Names, File, Kind, From)
        )
    ;   End = true
    ).

% The reader takes a clause in whole before it sees that it is none. The host finds the place, if it
% knows the operators.
tell_operators :-
    findall(Op, current_op(_, _, Op), Ops),
    host_tell(operators(Ops)).

% Fails at the end of the stream.
next_term(Stream, Term, Names, Singletons, From, To, Error) :-
    catch(synod_check:at_term(Stream, More), E1, true),
    (   nonvar(E1) ->
        position(Stream, From),
        To = From,
        error_reason(E1, Error)
    ;   More == true,
        position(Stream, From),
        catch(read_term(Stream, Term, [variable_names(Names), singletons(Singletons)]), E2, true),
        (   nonvar(E2) ->
            position(Stream, To),
            error_reason(E2, Error)
        ;   position(Stream, To)
        )
    ).

note_directive(Term, File, From, To) :-
    (   nonvar(Term), Term = (:- Directive) -> assertz(directive(File, From, To, Directive))
    ;   true
    ).

% The machine's own calls are none that catch/3 could make.
at_term(Stream, More) :-
    (   '$devour_whitespace'(Stream) -> More = true
    ;   More = false
    ).

position(Stream, Offset) :-
    stream_property(Stream, position(position_and_lines_read(Offset, _))).

error_reason(E, Reason) :-
    (   E = error(syntax_error(Reason0), _), atom(Reason0) -> Reason = Reason0
    ;   E = error(Reason, _) -> true
    ;   Reason = E
    ).

% After an error: on behind the next full stop that ends a line.
skip_clause(Stream) :-
    catch(skip_clause(Stream, none), _, true).

skip_clause(Stream, Last) :-
    get_char(Stream, Char),
    (   Char == end_of_file -> true
    ;   Char == '\n', Last == '.' -> true
    ;   (   Char == ' ' ; Char == '\t' ; Char == '\r' ) -> skip_blank(Stream, Last)
    ;   skip_clause(Stream, Char)
    ).

skip_blank(Stream, Last) :-
    (   Last == '.' -> skip_clause(Stream, '.')
    ;   skip_clause(Stream, none)
    ).

check_singletons(Singletons, File, From, To) :-
    (   member(Name=_, Singletons),
        \+ sub_atom(Name, 0, 1, _, '_'),
        host_tell(problem(warning, File, From, To, singleton(Name))),
        fail
    ;   true
    ).

check_term(Term, Names, File, Kind, From) :-
    (   var(Term) -> host_tell(problem(error, File, From, From, variable_clause))
    ;   Term = (:- Directive) -> check_directive(Directive, Names, File, Kind, From)
    ;   Term = (?- _) -> true
    ;   clause_pi(Term, Head, PI) ->
        check_clause(PI, Head, File, Kind, From)
    ;   true
    ).

clause_pi(Term, Head, Name/Arity) :-
    (   Term = (Head0 :- _) -> Extra = 0
    ;   Term = (Head1 --> _) ->
        Extra = 2,
        (   nonvar(Head1), Head1 = (Head0, _) -> true
        ;   Head0 = Head1
        )
    ;   Head0 = Term, Extra = 0
    ),
    nonvar(Head0),
    Head0 \= _:_,
    callable(Head0),
    Head = Head0,
    functor(Head, Name, Arity0),
    Arity is Arity0 + Extra.

check_clause(PI, Head, File, Kind, From) :-
    (   PI == on/1, Kind == program, arg(1, Head, Event) -> assertz(handler_head(Event))
    ;   true
    ),
    bb_get(synod_previous, Previous),
    (   PI == Previous -> true
    ;   replicates(PI) ->
        host_tell(problem(error, File, From, From, replicated_clause(PI)))
    ;   seen(File, PI), \+ apart(File, PI), PI \== on/1 ->
        host_tell(problem(warning, File, From, From, discontiguous(PI)))
    ;   seen(File, PI) -> true
    ;   assertz(seen(File, PI))
    ),
    bb_put(synod_previous, PI).

check_directive(Directive, _, _, _, _) :-
    var(Directive),
    !.
check_directive(module(Module, Exports), _, File, Kind, From) :-
    !,
    (   Kind == program, atom(Module) -> bb_put(synod_module, Module)
    ;   true
    ),
    (   atom(Module) -> note_module(File, Module)
    ;   true
    ),
    (   catch(( member(op(P, T, O), Exports), op(P, T, O), fail ; true ), _, fail) -> true
    ;   host_tell(problem(error, File, From, From, bad_exports))
    ).
check_directive(op(P, T, Os), _, File, _, From) :-
    !,
    (   catch(declare_ops(Os, P, T), _, fail) -> true
    ;   host_tell(problem(error, File, From, From, bad_operator))
    ).
check_directive(use_module(What), _, File, _, From) :-
    !,
    note_use(What),
    check_use(What, File, From).
check_directive(use_module(What, _), _, File, _, From) :-
    !,
    note_use(What),
    check_use(What, File, From).
check_directive(discontiguous(PIs), _, File, _, _) :-
    !,
    (   pi_of(PIs, PI), assertz(apart(File, PI)), fail
    ;   true
    ).
check_directive(replicated(PIs), _, File, _, From) :-
    !,
    check_declaration(replicated/1, File, From),
    (   pi_of(PIs, Name/Arity), assertz(replicates(Name/Arity)), host_tell(wants(Name, Arity)), fail
    ;   true
    ).
check_directive(agent(_), _, File, _, From) :-
    !,
    check_declaration(agent/1, File, From).
check_directive(_, _, _, _, _).

note_use(What) :-
    (   What == library(synod), \+ uses_synod -> assertz(uses_synod)
    ;   true
    ).

% A declaration of library(synod), in a program that has not used it yet.
check_declaration(PI, File, From) :-
    (   uses_synod -> true
    ;   host_tell(problem(error, File, From, From, without_synod(PI)))
    ).

declare_ops(Os, P, T) :-
    (   Os = [O|Os1] -> op(P, T, O), declare_ops(Os1, P, T)
    ;   Os == [] -> true
    ;   op(P, T, Os)
    ).

pi_of(PIs, PI) :-
    nonvar(PIs),
    (   ( PIs = [A|B] ; PIs = (A, B) ) -> ( pi_of(A, PI) ; pi_of(B, PI) )
    ;   PIs = A+key(_) -> pi_of(A, PI)
    ;   PIs = _/_ -> PI = PIs
    ).

check_use(What, File, From) :-
    (   var(What) -> true
    ;   What = library(_) ->
        catch(use_module(What), Error, true),
        (   var(Error) -> true
        ;   host_tell(problem(error, File, From, From, no_library(What)))
        )
    ;   ( What = net(_) ; What = remote(_) ) -> true
    ;   path_atom(What, Path) ->
        host(resolve(File, Path), Used),
        (   Used == [] ->
            host_tell(problem(error, File, From, From, no_file(Path)))
        ;   atom_chars(Used1, Used),
            bb_get(synod_previous, Previous),
            check_file(Used1, used),
            bb_put(synod_previous, Previous)
        )
    ;   true
    ).

path_atom(Path, Path) :-
    atom(Path).
path_atom(Dir/File, Path) :-
    atom(File),
    path_atom(Dir, Dir1),
    atom_concat(Dir1, '/', Dir2),
    atom_concat(Dir2, File, Path).

%% loading_place(-File, -Offset) is semidet.
%
% The term that the loader is at, or has stopped at, in its file.
loading_place(File, From) :-
    bb_get(synod_at, File-To),
    (   directive(File, From0, To, _) -> From = From0
    ;   From is max(0, To-2)       % a clause: its end, before the line break
    ).

% The loader itself forgets where it was before it says what was wrong.
note_loading :-
    prolog_load_context(source, File),
    prolog_load_context(stream, Stream),
    position(Stream, To),
    bb_put(synod_at, File-To).

% The goals of initialization/1 run when all has been read: before each comes where it stands.
initialization_expansion(Goal, Terms) :-
    Goal \== true,
    Goal \= synod_check:begins(_),
    bb_get(synod_at, At),
    \+ bb_get(synod_marked, At),
    bb_put(synod_marked, At),
    Terms = [(:- initialization(synod_check:begins(At))), (:- initialization(Goal))].

begins(At) :-
    bb_put(synod_at, At).

%% read_goal(+File, -Goal, -VariableNames) is semidet.
%
% The one term that File holds. What is wrong goes to the host, and it fails.
read_goal(File, Goal, Names) :-
    open(File, read, Stream),
    (   next_term(Stream, Goal, Names, _, From, To, Error) -> true
    ;   From = 0, To = 0, Error = no_goal
    ),
    close(Stream),
    (   nonvar(Error) ->
        tell_operators,
        host_tell(problem(error, '', From, To, Error)),
        fail
    ;   host(read_to(To), true)
    ).

% Last: from here on every term that is loaded comes by here.
user:term_expansion(_, _) :-
    synod_check:note_loading,
    fail.
user:term_expansion((:- initialization(Goal)), Terms) :-
    synod_check:initialization_expansion(Goal, Terms).
