#!/usr/bin/env bash
# See usage below, or launch/tpu_vm.sh --help.
set -euo pipefail

usage() {
  cat <<'TEXT'
Run an experiment on all hosts of a Cloud TPU VM, one process for each.

  launch/tpu_vm.sh [--dry-run] create  NAME ZONE TYPE VERSION [FLAG ...]
  launch/tpu_vm.sh [--dry-run] install NAME ZONE
  launch/tpu_vm.sh [--dry-run] mount   NAME ZONE SERVER:/EXPORT
  launch/tpu_vm.sh [--dry-run] run     NAME ZONE --config FILE --workdir DIR [setting ...]
  launch/tpu_vm.sh [--dry-run] stop    NAME ZONE
  launch/tpu_vm.sh [--dry-run] delete  NAME ZONE

create   makes the TPU, for example of TYPE v5p-16, two hosts of four chips, with VERSION
         v2-alpha-tpuv5; further flags such as --spot go to gcloud
install  copies the package to every host and installs it there; again after each change of it
mount    mounts a shared NFS folder, such as one of Filestore, as /mnt/jaxmatte on every host:
         data and --workdir of several hosts must be on one
run      gives what follows to jaxmatte.main on every host, which find each other by themselves; a
         run that ended otherwise than with 0 goes on when it is given again
stop     lets the run save a checkpoint and end
delete   deletes the TPU, which costs as long as it exists

--dry-run prints the commands and does nothing. Project and account are those of gcloud's settings.
TEXT
}

fail() {
  echo "tpu_vm.sh: $1; see launch/tpu_vm.sh --help" >&2
  exit 2
}

# A command, or with --dry-run its text, quoted so that a shell reads it back.
call() {
  if ((dry_run)); then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# A command line on every host, all at once.
on_all_hosts() {
  call gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

install() {
  local archive root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  archive=$(mktemp -d)/jaxmatte.tar.gz
  # Python writes its caches while another run goes on: they stay out.
  call tar --create --gzip --file="$archive" --directory="$root" --exclude=__pycache__ \
    jaxmatte configs launch pyproject.toml constraints.txt README.md LICENSE
  call gcloud compute tpus tpu-vm scp "$archive" "$name:jaxmatte.tar.gz" --zone="$zone" --worker=all
  rm -rf "$(dirname "$archive")"
  # The images bring an older Python than the package needs; uv fetches one.
  on_all_hosts "set -e; rm -rf jaxmatte/jaxmatte; mkdir -p jaxmatte; \
tar --extract --gzip --file=jaxmatte.tar.gz --directory=jaxmatte; cd jaxmatte; \
python3 -m pip install --quiet --user uv; \
test -x .venv/bin/python || python3 -m uv venv --python 3.11 .venv; \
python3 -m uv pip install --quiet --python .venv/bin/python -c constraints.txt -e '.[tpu]'"
}

mount_folder() {
  on_all_hosts "set -e; sudo apt-get install --quiet --yes nfs-common; sudo mkdir -p /mnt/jaxmatte; \
mountpoint -q /mnt/jaxmatte || sudo mount -t nfs $(printf '%q' "$1") /mnt/jaxmatte; \
test -w /mnt/jaxmatte || sudo chmod a+rwx /mnt/jaxmatte"
}

run() {
  local quoted
  printf -v quoted ' %q' "$@"
  # exec keeps the number of the process, which `stop` signals.
  on_all_hosts "cd jaxmatte && echo \$\$ > run.pid && \
exec .venv/bin/python -m jaxmatte.main --stopped_exit_code=75$quoted"
}

dry_run=0
case "${1-}" in
  -h | --help)
    usage
    exit 0
    ;;
  --dry-run)
    dry_run=1
    shift
    ;;
esac
(($# >= 3)) || fail "give a verb, the name of the TPU and its zone"
verb=$1 name=$2 zone=$3
shift 3
case "$verb" in
  create)
    (($# >= 2)) || fail "create needs TYPE and VERSION"
    type=$1 version=$2
    shift 2
    call gcloud compute tpus tpu-vm create "$name" --zone="$zone" --accelerator-type="$type" \
      --version="$version" "$@"
    ;;
  install)
    install
    ;;
  mount)
    (($# == 1)) || fail "mount needs SERVER:/EXPORT"
    mount_folder "$1"
    ;;
  run)
    (($# >= 1)) || fail "run needs the arguments of jaxmatte.main"
    run "$@"
    ;;
  stop)
    # shellcheck disable=SC2016 # The hosts expand it.
    on_all_hosts 'kill -TERM "$(cat jaxmatte/run.pid)"'
    ;;
  delete)
    call gcloud compute tpus tpu-vm delete "$name" --zone="$zone"
    ;;
  *)
    fail "$verb is none of create, install, mount, run, stop and delete"
    ;;
esac
