%%%% Facts.

% fact(+Head): what a replicated predicate's accessor calls. The host answers a list of the facts
% that can match; its tail is [] after the last, and else the number under which to ask for more.
fact(Head) :-
    host(find(Head), Facts),
    found(Facts, Head).

found([Fact|Facts], Head) :-
    found(Facts, Fact, Head).

found(Facts, Fact, Head) :-
    (   Facts == [] -> Head = Fact
    ;   Head = Fact
    ;   Facts = [Fact1|Facts1] -> found(Facts1, Fact1, Head)
    ;   host(more(Facts), Facts1),
        found(Facts1, Head)
    ).

% add(+End, +Module, +Clause): assertz/1 (z) and asserta/1 (a).
add(End, Module, Clause) :-
    clause_parts(Module, Clause, M, Head, Body),
    (   replicated_head(Head) ->
        (   Body == true -> host_tell(add(End, Head))
        ;   functor(Head, Name, Arity),
            must_be_body(Body),
            throw(error(permission_error(modify, replicated_procedure, Name/Arity), assertz/1))
        )
    ;   Body == true -> native(End, M:Head)
    ;   native(End, M:(Head :- Body))
    ).

native(z, Clause) :- builtins:assertz(Clause).
native(a, Clause) :- builtins:asserta(Clause).

must_be_body(Body) :-
    (   var(Body) -> throw(error(instantiation_error, assertz/1))
    ;   callable(Body) -> true
    ;   throw(error(type_error(callable, Body), assertz/1))
    ).

% Takes a clause apart as 8.9.1 of the standard has it; its body's goals are expanded.
clause_parts(Module0, Clause, Module, Head, Body) :-
    (   var(Clause) -> throw(error(instantiation_error, assertz/1))
    ;   Clause = M:Clause1, atom(M) -> clause_parts(M, Clause1, Module, Head, Body)
    ;   Clause = (Head0 :- Body0) ->
        head_parts(Module0, Head0, Module, Head),
        (   callable(Body0) -> loader:expand_goal(Body0, Module, Body)
        ;   Body = Body0
        )
    ;   head_parts(Module0, Clause, Module, Head),
        Body = true
    ).

head_parts(Module0, Head0, Module, Head) :-
    (   var(Head0) -> throw(error(instantiation_error, assertz/1))
    ;   Head0 = M:Head1, atom(M) -> head_parts(M, Head1, Module, Head)
    ;   callable(Head0) -> Module = Module0, Head = Head0
    ;   throw(error(type_error(callable, Head0), assertz/1))
    ).

replicated_head(Head) :-
    functor(Head, Name, Arity),
    replicated_pi(Name, Arity).

% take(+Module, ?Clause): retract/1. The host takes the first fact away that matches, and answers
% as for fact/1. Constraints on variables are not known to it: then each candidate is tried here.
take(Module, Clause) :-
    clause_pattern(Module, Clause, M, Head, Body),
    (   replicated_head(Head) ->
        Body = true,
        (   '$term_attributed_variables'(Head, []) ->
            host(take(Head), Facts),
            taken(Facts, Head)
        ;   host(handles(Head), Handles),
            take_one(Handles, Head)
        )
    ;   builtins:retract(M:(Head :- Body))
    ).

taken([Fact|Rest], Head) :-
    (   Rest == [] -> Head = Fact
    ;   Head = Fact
    ;   host(take_more(Rest), Facts),
        taken(Facts, Head)
    ).

take_one(Handles, Head) :-
    (   Handles = [h(Handle, Fact)|Handles1] ->
        (   Head = Fact,
            host(take_handle(h(Head, Handle)), true)
        ;   take_one(Handles1, Head)
        )
    ;   integer(Handles),
        host(more(Handles), Handles1),
        take_one(Handles1, Head)
    ).

clause_pattern(Module0, Clause, Module, Head, Body) :-
    (   var(Clause) -> throw(error(instantiation_error, retract/1))
    ;   Clause = M:Clause1, atom(M) -> clause_pattern(M, Clause1, Module, Head, Body)
    ;   Clause = (Head0 :- Body) -> head_pattern(Module0, Head0, Module, Head, retract/1)
    ;   Body = true,
        head_pattern(Module0, Clause, Module, Head, retract/1)
    ).

head_pattern(Module0, Head0, Module, Head, Context) :-
    (   var(Head0) -> throw(error(instantiation_error, Context))
    ;   Head0 = M:Head1, atom(M) -> head_pattern(M, Head1, Module, Head, Context)
    ;   callable(Head0) -> Module = Module0, Head = Head0
    ;   throw(error(type_error(callable, Head0), Context))
    ).

% take_all(+Module, +Head): retractall/1.
take_all(Module, Head0) :-
    head_pattern(Module, Head0, M, Head, retractall/1),
    (   replicated_head(Head) ->
        (   '$term_attributed_variables'(Head, []) -> host_tell(take_all(Head))
        ;   (   take(M, Head), fail
            ;   true
            )
        )
    ;   builtins:retractall(M:Head)
    ).

% clause(+Module, +Head, ?Body): clause/2.
clause(Module, Head0, Body) :-
    head_pattern(Module, Head0, M, Head, clause/2),
    (   replicated_head(Head) ->
        (   var(Body) -> true
        ;   callable(Body) -> true
        ;   throw(error(type_error(callable, Body), clause/2))
        ),
        Body = true,
        fact(Head)
    ;   M == user -> builtins:clause(Head, Body)      % user:'$clause'/2 is none that exists
    ;   builtins:clause(M:Head, Body)
    ).

% abolish(+Module, @PI): abolish/1.
abolish(Module, PI0) :-
    (   nonvar(PI0), PI0 = M:PI, atom(M) -> true
    ;   M = Module, PI = PI0
    ),
    (   nonvar(PI), PI = Name/Arity, atom(Name), integer(Arity), replicated_pi(Name, Arity) ->
        throw(error(permission_error(modify, replicated_procedure, PI), abolish/1))
    ;   builtins:abolish(M:PI)
    ).

quit(Status) :-
    (   integer(Status), Status >= 0, Status =< 255 -> host_tell(halt(Status))
    ;   true
    ),
    builtins:halt(Status).

set_flag(Flag, Value) :-
    builtins:set_prolog_flag(Flag, Value),
    (   Flag == double_quotes -> host_tell(quotes(Value))
    ;   true
    ).

% consult(+Module, +File): consult/1, of net(Name) too.
consult(Module, File0) :-
    (   nonvar(File0), File0 = net(Name) -> module_file(Name, File)
    ;   File = File0
    ),
    call(Module:use_module(File)).

module_file(Name, File) :-
    must_be(atom, Name),
    host(module(Name), File).
