%%%% Hooks. They stand last: from here on every clause that is loaded goes through them.

user:term_expansion((:- use_module(Library)), Terms) :-
    nonvar(Library),
    synod:expansion(synod:use_expansion(Library, Terms), Terms).
user:term_expansion((:- use_module(Library, Exports)), Terms) :-
    nonvar(Library),
    synod:expansion(synod:use_expansion(Library, Exports, Terms), Terms).
user:term_expansion((:- replicated(PIs)), Terms) :-
    synod:expansion(synod:replicated_expansion(PIs, Terms), Terms).
user:term_expansion((:- agent(Mode)), Terms) :-
    synod:expansion(synod:agent_expansion(Mode, Terms), Terms).
user:term_expansion((:- set_prolog_flag(Flag, Value)), Terms) :-
    synod:expansion(synod:flag_expansion(Flag, Value, Terms), Terms).
user:term_expansion(Clause, Terms) :-
    synod:replicated_clause(Clause, PI),
    synod:refuse(error(permission_error(modify, replicated_procedure, PI), load/1), Terms).

% Registers the functors whose goals are looked at for expansion at all.
user:goal_expansion(assertz(_), _) :- fail.
user:goal_expansion(asserta(_), _) :- fail.
user:goal_expansion(retract(_), _) :- fail.
user:goal_expansion(retractall(_), _) :- fail.
user:goal_expansion(abolish(_), _) :- fail.
user:goal_expansion(clause(_, _), _) :- fail.
user:goal_expansion(halt, _) :- fail.
user:goal_expansion(halt(_), _) :- fail.
user:goal_expansion(consult(_), _) :- fail.
user:goal_expansion(set_prolog_flag(_, _), _) :- fail.
