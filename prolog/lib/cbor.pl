/** CBOR that others made (RFC 8949).

| CBOR | Prolog |
|---|---|
| integers, bignums (tags 2, 3) | integers |
| floats | floats; `@not_a_number`, `@infinity`, `@negative_infinity` |
| text strings | strings (lists of characters) |
| byte strings | `bytes(Cs)`: Cs a string of the characters 0 to 255 |
| arrays | lists |
| maps | `{K-V,…}`; `{}` is the empty one |
| tags | `tag(N, X)` |
| false, true, null | `@false`, `@true`, `@null` |
| other simple values | `simple(N)` |

The terms that agents exchange have a codec of their own, which keeps every Prolog term as it is.
*/

:- module(cbor, [
    op(200, fy, @),
    cbor_term/2             % ?Bytes, ?Term
]).

:- use_module(library(error)).
:- use_module(library(synod_host)).

%% cbor_term(?Bytes, ?Term) is det.
%
% Bytes, a string of the characters 0 to 255, is the CBOR item that Term stands for. If Bytes is
% bound, it is decoded; else Term is encoded, in deterministic form.
%
% ```
% ?- cbor_term("\x83\\x1\\x2\\x3\", T).
%    T = [1,2,3].
% ?- cbor_term(Bytes, [1,2,3]), cbor_term(Bytes, T).
%    Bytes = "\x83\\x1\\x2\\x3\", T = [1,2,3].
% ```
%
% Errors: instantiation_error if neither is bound; syntax_error(cbor(Why)) for Bytes that are no one
% item; domain_error(cbor, Why) for a Term that stands for none.
cbor_term(Bytes, Term) :-
    (   nonvar(Bytes) ->
        must_be(chars, Bytes),
        host(decode(Bytes), Term0),
        Term = Term0
    ;   var(Term) -> instantiation_error(cbor_term/2)
    ;   host(encode(Term), Bytes0),
        Bytes = Bytes0
    ).
