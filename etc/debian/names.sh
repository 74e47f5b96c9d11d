# Functions of the completion, for bash and zsh: names of this node, which the daemon tells at once. Without the right to
# ask the daemon, there are none. A name with a blank is left out: bash would take it for two.

_wgsyncd_names() {
    case $1 in
        plan) wgsyncd status --json ;;
        id) wgsyncd quarantine --json ;;
        *) wgsyncd devices --all --json ;;
    esac 2>/dev/null </dev/null | grep -oE "\"($1)\": (\"[^\"\\\\ ]+\"|[0-9]+)" |
        cut -d ' ' -f 2 | tr -d '"' | sort -u
}

_wgsyncd_complete() {
    if [ -n "${ZSH_VERSION-}" ]; then
        local -a names
        names=("${(@f)$(_wgsyncd_names "$1")}")
        compadd -a names
    else
        local IFS=$'\n'
        compgen -W "$(_wgsyncd_names "$1")" -- "$2"
    fi
}

_wgsyncd_device() { _wgsyncd_complete 'device|name' "$1"; }
_wgsyncd_device_id() { _wgsyncd_complete device "$1"; }
_wgsyncd_device_or_owner() { _wgsyncd_complete 'device|name|owner' "$1"; }
_wgsyncd_plan() { _wgsyncd_complete plan "$1"; }
_wgsyncd_quarantined() { _wgsyncd_complete id "$1"; }
