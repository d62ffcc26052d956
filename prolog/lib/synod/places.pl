%%%% Who and where.

%% self(-Agent) is det.
%
% The agent's name, as in `on(event(_, From, _))`.
%
% ```
% ?- self(Agent).
%    Agent = anna.
% ```
self(Agent) :-
    host(self, Agent0),
    Agent = Agent0.

%% this_node(-Node) is det.
%
% The name of the node that the engine runs on.
%
% ```
% ?- this_node(Node).
%    Node = n1.
% ```
this_node(Node) :-
    host(node, Node0),
    Node = Node0.

%% space_members(-Members) is det.
%
% The members of the space: a list of member(Node, Role), where Role is voter, learner or observer.
%
% ```
% ?- space_members(Members).
%    Members = [member(n1,voter)].
% ```
space_members(Members) :-
    host(members, Members0),
    Members = Members0.

%% agent_log(+Level, +Format, +Arguments) is det.
%
% Writes a line to the agent's log, of level debug, info, warning or error, formatted as by format/2
% of library(format). Errors: domain_error(log_level, Level) and those of format/2.
%
% ```
% ?- agent_log(info, "~w has ~d", [alice, 70]).
%    true.
% ```
agent_log(Level, Format, Arguments) :-
    must_be(atom, Level),
    (   member(Level, [debug, info, warning, error]) -> true
    ;   domain_error(log_level, Level, agent_log/3)
    ),
    must_be(list, Arguments),
    synod_format(Format, Arguments, Chars),
    host_tell(log(Level, Chars)).

% library(format) is large and few programs log: it is loaded by the first call.
synod_format(Format, Arguments, Chars) :-
    (   current_module(format) -> true
    ;   use_module(library(format))
    ),
    call(format:format_(Format, Arguments), Chars, []).
