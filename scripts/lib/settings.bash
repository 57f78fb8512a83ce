# Reads the settings from the environment and from .env, which is parsed and never executed. The environment wins. To be sourced
# from the top of the project. Defines say, die, read_settings, SCRIPT_VARIABLES and PROGRAM_SETTINGS.
# shellcheck shell=bash

say() {
    # A line of progress must end before another line begins.
    [ -z "${progress_pid:-}" ] || stop_progress
    printf '%s\n' "$*" >&2
}
die() { say "error: $*"; exit 1; }

# names_in SECTION: the variables in a section of .env.example, which lists all variables.
names_in() { awk -v section="# == $1" '/^# ==/ { inside = $0 == section } inside && /^#?[A-Z_]+=/ { sub(/^#/, ""); sub(/=.*/, ""); print }' .env.example; }
mapfile -t SCRIPT_VARIABLES < <(names_in "Containers and scripts")
mapfile -t PROGRAM_SETTINGS < <(names_in "Settings of the program")

is_variable() {
    local name
    for name in "${SCRIPT_VARIABLES[@]}" "${PROGRAM_SETTINGS[@]}" "${PROGRAM_SETTINGS[@]/%/_FILE}"; do
        [ "$1" != "$name" ] || return 0
    done
    return 1
}

# other_form NAME: NAME_FILE for NAME, and NAME for NAME_FILE. If the environment sets one form, .env does not set the other.
other_form() { case $1 in *_FILE) echo "${1%_FILE}" ;; *) echo "$1_FILE" ;; esac; }

# parse_value TEXT: sets `value` to the value in TEXT, the part of a line after the =. Fails when a quote is not closed.
parse_value() {
    local text=$1 single="^'([^']*)'[[:space:]]*(#.*)?$" double='^"(([^"\\]|\\.)*)"[[:space:]]*(#.*)?$'
    case $text in
        \'*)
            [[ $text =~ $single ]] || return 1
            value=${BASH_REMATCH[1]}
            ;;
        \"*)
            [[ $text =~ $double ]] || return 1
            value=$(sed -E 's/\\(["\\$])/\1/g' <<<"${BASH_REMATCH[1]}")
            ;;
        *)
            [[ $text != \#* ]] || text=
            value=${text%%[[:space:]]#*}
            value=${value%"${value##*[![:space:]]}"}
            ;;
    esac
}

# read_settings: exports the variables of .env that the environment does not set. Unsets empty variables: empty means default.
read_settings() {
    local line number=0 name value assignment='^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)[[:space:]]*=[[:space:]]*(.*)$'
    local blank='^[[:space:]]*(#.*)?$' other added=()
    # A script that another script calls inherits the variables and does not read the file again.
    if [ -f .env ] && [ "${TWOTIER_ENV_READ:-}" != "$PWD" ]; then
        while IFS= read -r line || [ -n "$line" ]; do
            number=$((number + 1))
            line=${line#$'\xef\xbb\xbf'}
            line=${line%$'\r'}
            [[ ! $line =~ $blank ]] || continue
            [[ $line =~ $assignment ]] || die ".env, line $number: expected NAME=VALUE."
            name=${BASH_REMATCH[2]}
            parse_value "${BASH_REMATCH[3]}" || die ".env, line $number: the quote after $name= is not closed in this line."
            if ! is_variable "$name"; then
                say "note: .env, line $number: $name is not a variable of this project (see .env.example); it is ignored."
                continue
            fi
            other=$(other_form "$name")
            [ -n "${!name+x}${!other+x}" ] || added+=("$name=$value")
        done <.env
    fi
    # After the loop: inside it, an earlier line of the file would count as the environment.
    [ ${#added[@]} = 0 ] || export "${added[@]}"
    export TWOTIER_ENV_READ=$PWD
    for name in "${SCRIPT_VARIABLES[@]}" "${PROGRAM_SETTINGS[@]}"; do
        [ -n "${!name:-}" ] || unset "$name"
    done
}
