# Process 1 of a cluster's namespaces: lays out files, control groups and network, then keeps the parts running.
# Environment: FOLDER (data), KUBE (binary), NAME (of interface and control group), NODE and HOST (both ends of the link), PODS, SERVICES.
# Descriptor 0 is the lock of the cluster's slot, inherited by every part: it is free when all are gone. Descriptor 9 is the machine's network.
set -eu

# Inside, the folder is /mnt, however long its name. What programs leave in fixed places of the system vanishes with the namespaces.
mkdir -p "$FOLDER"/{containerd,etcd,log}
chmod 700 "$FOLDER/etcd"
touch "$FOLDER/kube"
mount --bind "$KUBE" "$FOLDER/kube"
mount --rbind "$FOLDER" /mnt
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount --bind /mnt/log /var/log
mkdir -p /run/netns /var/lib/cni
# Volumes of pods from an earlier start: the pods are made anew.
rm -rf /mnt/kubelet
rm -f /mnt/log/*.log

# One control group above all pods, in each hierarchy of version 1 or in the only one of version 2.
cgroups() { if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else dirname /sys/fs/cgroup/*/cgroup.procs; fi; }
for root in $(cgroups); do
  mkdir -p "$root/$NAME"
  for file in cpuset.cpus cpuset.mems; do
    if [ -e "$root/$NAME/$file" ] && [ -e "$root/$file" ]; then cat "$root/$file" > "$root/$NAME/$file"; fi
  done
  # All pods together would else weigh as much as one session of this machine, beside servers that they share with nobody elsewhere.
  if [ -e "$root/$NAME/cpu.shares" ]; then echo 8192 > "$root/$NAME/cpu.shares"; fi
  if [ -e "$root/$NAME/cpu.weight" ]; then echo 800 > "$root/$NAME/cpu.weight"; fi
done

ip link set lo up
ip link add eth0 type veth peer name "$NAME" netns /proc/self/fd/9
ip address add "$NODE/30" dev eth0
ip link set eth0 up
ip route add default via "$HOST"
echo 1 > /proc/sys/net/ipv4/ip_forward
machine() { nsenter --net=/proc/self/fd/9 "$@"; }
machine ip address add "$HOST/30" dev "$NAME"
machine ip link set "$NAME" up
for range in "$PODS" "$SERVICES"; do machine ip route replace "$range" via "$NODE"; done
exec 9<&-
set +eu

part() { # NAME COMMAND…: runs it again when it ends
  ( while :; do "${@:2}"; echo "=== $1 ended with status $?; it is started again"; sleep 0.5; done ) <&0 >> "/mnt/log/$1.log" 2>&1 &
}
listening() { until (exec 3<> "/dev/tcp/$1/$2") 2> /dev/null; do sleep 0.05; done; }

part containerd containerd --config /mnt/config/containerd.toml
. /mnt/config/parts.sh
wait
