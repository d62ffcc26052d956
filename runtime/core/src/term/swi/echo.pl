% Reads datagrams of library(udp_broadcast) with that library's own code, one a line without the
% magic line before it, and writes each as the library would send it on, likewise.

:- use_module(library(readutil)).
:- use_module(library(udp_broadcast)).

:- initialization(main, main).

main :-
    set_stream(user_input, encoding(iso_latin_1)),
    set_stream(user_output, encoding(iso_latin_1)),
    echo.

echo :-
    read_line_to_string(user_input, Line),
    (   Line == end_of_file
    ->  true
    ;   string_concat("%-prolog-\n", Line, Data),
        (   catch(udp_broadcast:udp_term_string(echo, Term, Data), _, fail)
        ->  udp_broadcast:udp_term_string(echo, Term, Again),
            string_concat("%-prolog-\n", Text, Again)
        ;   Text = "no term"
        ),
        write(Text),
        nl,
        echo
    ).
