%%%% Goals solved by other agents.

%% +Agent :: ?Goal is nondet.
%
% Solves Goal in another agent: `remote(Agent, Goal, [])`.
%
% ```
% ?- bert::stock(apple, N).
%    N = 3
% ;  N = 4.
% ```
Agent::Goal :-
    remote(Agent, Goal, []).

%% remote(+Agent, ?Goal, +Options) is nondet.
%
% Solves Goal with the program and the facts of the agent named Agent, in an engine beside it, on the
% node where it runs; answers come one by one on backtracking, fetched in chunks. Goal is neither expanded nor qualified before it
% leaves. It is no part of the caller's transaction. Options: timeout(Seconds) for each chunk, and
% chunk(N), 16 by default.
%
% Errors: existence_error(agent, Agent); resource_error(call_time); system_error(Why), which names the
% node, if the connection with it breaks; whatever Goal throws there.
%
% ```
% ?- remote(bert, stock(pear, N), [timeout(2.5)]).
%    N = 7.
% ?- remote(nobody, stock(pear, N), []).
%    error(existence_error(agent,nobody),remote/3).
% ```
remote(Agent, Goal, Options) :-
    must_be(atom, Agent),
    must_be_bound(Goal, remote/3),
    must_be(list, Options),
    remote_options(Options, 16, Chunk, 0, Timeout),
    host(call(Agent, Goal, Chunk, Timeout), call(Call, Answers, More)),
    (   More == false -> remote_answer(Answers, Goal)
    ;   setup_call_cleanup(true, remote_answers(Answers, Call, Goal), host_tell(call_close(Call)))
    ).

remote_options([], Chunk, Chunk, Timeout, Timeout).
remote_options([Option|Options], Chunk0, Chunk, Timeout0, Timeout) :-
    (   var(Option) -> instantiation_error(remote/3)
    ;   Option = timeout(Seconds) ->
        seconds_micros(Seconds, Micros),
        Timeout1 is Micros // 1000,
        remote_options(Options, Chunk0, Chunk, Timeout1, Timeout)
    ;   Option = chunk(N) ->
        must_be(integer, N),
        (   N >= 1, N =< 1000 -> true
        ;   domain_error(chunk, N, remote/3)
        ),
        remote_options(Options, N, Chunk, Timeout0, Timeout)
    ;   domain_error(remote_option, Option, remote/3)
    ).

remote_answers(Answers, _, Goal) :-
    remote_answer(Answers, Goal).
remote_answers(_, Call, Goal) :-
    host(call_more(Call), call(Call, Answers, More)),
    (   More == false -> remote_answer(Answers, Goal)
    ;   remote_answers(Answers, Call, Goal)
    ).

remote_answer([Answer|Answers], Goal) :-
    (   Answers == [] -> remote_solution(Answer, Goal)
    ;   remote_solution(Answer, Goal)
    ;   remote_answer(Answers, Goal)
    ).

% The error that ended the answers stands last among them.
remote_solution('@error'(Error), _) :-
    throw(Error).
remote_solution(answer(Goal, Residuals), Goal) :-
    maplist(call, Residuals).
