{{/*
The configuration in force: what values.config says, and what a cluster of pods adds to it. The ConfigMap has all of it;
each Serve application gets what its pool needs.
*/}}

{{/* The longest a stream may take, in seconds. Every drain and grace period follows from it. */}}
{{- define "longreach.streamSeconds" -}}
{{- dig "gateway" "limits" "request_s" 3600 .Values.config | ceil | int -}}
{{- end -}}

{{- define "longreach.config" -}}
{{- $root := . -}}
{{- $config := deepCopy .Values.config -}}
{{- $stream := include "longreach.streamSeconds" . | int -}}

{{- $cluster := default dict $config.cluster -}}
{{- $_ := set $cluster "name" (default (include "longreach.fullname" .) $cluster.name) -}}
{{- $_ := set $cluster "replica_host" "node" -}}
{{- $_ := set $cluster "replica_port_min" 30000 -}}
{{- $_ := set $config "cluster" $cluster -}}

{{- $redis := dict -}}
{{- range $role := list "state" "cache" -}}
{{- $of := dict "root" $root "role" $role -}}
{{- if include "longreach.redis.isUsed" $of -}}
{{- $external := (index $root.Values.redis $role).external -}}
{{- $_ := set $redis (printf "%s_url" $role) (include "longreach.redis.url" $of) -}}
{{- if include "longreach.redis.hasLogin" $of -}}
{{- $_ := set $redis (printf "%s_password_file" $role) (printf "/etc/longreach/redis-%s/password" $role) -}}
{{- end -}}
{{- if and $external.url $external.user -}}{{- $_ := set $redis (printf "%s_user" $role) $external.user -}}{{- end -}}
{{- if and $external.url $external.caKey -}}
{{- $_ := set $redis (printf "%s_ca_file" $role) (printf "/etc/longreach/redis-%s/ca.crt" $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $config "redis" $redis -}}

{{- $gateway := default dict $config.gateway -}}
{{- $_ := set $gateway "host" "0.0.0.0" -}}
{{- $_ := set $gateway "port" 8080 -}}
{{- $_ := set $gateway "admin" (merge (dict "host" "0.0.0.0" "port" 8081) (default dict $gateway.admin)) -}}
{{- $grpc := default dict $gateway.grpc -}}
{{- if ne (toString $grpc.enabled) "false" -}}{{- $_ := set $grpc "port" 8082 -}}{{- end -}}
{{- $_ := set $gateway "grpc" $grpc -}}
{{- $_ := set $gateway "auth" (merge (dict "keys_file" "/etc/longreach/keys/keys.yaml") (default dict $gateway.auth)) -}}
{{- if .Values.tls.enabled -}}
{{- $tls := dict "cert_file" "/etc/longreach/tls/tls.crt" "key_file" "/etc/longreach/tls/tls.key" -}}
{{- if .Values.tls.clientCa -}}{{- $_ := set $tls "client_ca_file" "/etc/longreach/tls/ca.crt" -}}{{- end -}}
{{- $_ := set $gateway "tls" $tls -}}
{{- end -}}
{{- $limits := default dict $gateway.limits -}}
{{- if not (hasKey $limits "drain_s") -}}{{- $_ := set $limits "drain_s" $stream -}}{{- end -}}
{{- $_ := set $gateway "limits" $limits -}}
{{- $_ := set $config "gateway" $gateway -}}

{{- $telemetry := default dict $config.telemetry -}}
{{- if not $telemetry.log_format -}}{{- $_ := set $telemetry "log_format" "json" -}}{{- end -}}
{{- if .Values.otel.endpoint -}}
{{- $traces := merge (default dict $telemetry.traces) (dict "endpoint" .Values.otel.endpoint "protocol" .Values.otel.protocol) -}}
{{- $_ := set $telemetry "traces" $traces -}}
{{- end -}}
{{- $_ := set $config "telemetry" $telemetry -}}

{{- $pools := list -}}
{{- range $pool := $config.pools -}}
{{- $pools = append $pools (include "longreach.pool" (dict "root" $root "pool" $pool "stream" $stream) | fromJson) -}}
{{- end -}}
{{- $_ := set $config "pools" $pools -}}
{{- toJson $config -}}
{{- end -}}

{{/* Whether there is a RayService at all; a gateway may stand before static endpoints only. */}}
{{- define "longreach.serves" -}}
{{- range .Values.config.pools -}}{{- if not .endpoints -}}true{{- end -}}{{- end -}}
{{- end -}}

{{/* Whether Ray's autoscaler runs. */}}
{{- define "longreach.scales" -}}
{{- if and .Values.ray.autoscaler.enabled (include "longreach.serves" .) }}true{{ end -}}
{{- end -}}

{{/* One pool, with its worker group and what follows from that. (dict "root" . "pool" $pool "stream" seconds) */}}
{{- define "longreach.pool" -}}
{{- $pool := deepCopy .pool -}}
{{- if not $pool.endpoints -}}
{{- $groups := .root.Values.workerGroups -}}
{{- if and (not $pool.worker_group) (eq (len $groups) 1) -}}{{- $_ := set $pool "worker_group" (keys $groups | first) -}}{{- end -}}
{{- $group := include "longreach.group" (dict "root" .root "name" $pool.worker_group) | fromJson -}}
{{- $_ := set $pool "accelerator" (ternary "cuda" "cpu" (gt (int $group.gpu.count) 0)) -}}
{{- if gt (int $group.hosts) 1 -}}{{- $_ := set $pool "hosts" $group.hosts -}}{{- end -}}
{{- $engine := default dict $pool.engine -}}
{{- if not (hasKey $engine "drain_s") -}}{{- $_ := set $engine "drain_s" .stream -}}{{- end -}}
{{- $_ := set $pool "engine" $engine -}}
{{- if not $pool.revision -}}{{- $_ := set $pool "revision" "stable" -}}{{- end -}}
{{- $canary := .root.Values.canary -}}
{{- if and $canary.enabled (hasKey $canary.pools $pool.name) -}}
{{- $_ := set $pool "traffic" (dict $pool.revision (sub 100 (int $canary.weight)) "canary" (int $canary.weight)) -}}
{{- end -}}
{{- end -}}
{{- toJson $pool -}}
{{- end -}}

{{/* A worker group with its defaults. (dict "root" . "name" "large") */}}
{{- define "longreach.group" -}}
{{- $groups := .root.Values.workerGroups -}}
{{- if not (hasKey $groups (default "" .name)) -}}
{{- fail (printf "\n\nA pool's worker_group is %q, and workerGroups has: %s. Name one of these in config.pools[].worker_group." (default "" .name) (keys $groups | sortAlpha | join ", " | default "none")) -}}
{{- end -}}
{{- $defaults := dict "gpu" (dict "count" 0 "resource" "nvidia.com/gpu" "products" list) "hosts" 1 "maxWorkers" 0 "replicasPerWorker" 1 "shmSize" "8Gi" "resources" dict -}}
{{- /* `helm lint` goes on after a `fail`. */ -}}
{{- toJson (mergeOverwrite $defaults (deepCopy (default dict (get $groups (default "" .name))))) -}}
{{- end -}}

{{/* How many replicas of a pool one worker holds (of several hosts: one set of them). (dict "group" $group "pool" $pool) */}}
{{- define "longreach.slots" -}}
{{- $ranks := int (default 1 .pool.tensor_parallel) -}}
{{- if gt (int .group.gpu.count) 0 -}}
{{- div (mul (int .group.gpu.count) (int .group.hosts)) $ranks -}}
{{- else -}}
{{- int .group.replicasPerWorker -}}
{{- end -}}
{{- end -}}

{{/* Workers that some pools need: {"min": 1, "max": 2}. (dict "group" $group "pools" $poolsOfTheGroup) */}}
{{- define "longreach.workers" -}}
{{- $group := .group -}}
{{- $min := 0 -}}
{{- $max := 0 -}}
{{- range $pool := .pools -}}
{{- $slots := max 1 (include "longreach.slots" (dict "group" $group "pool" $pool) | int) -}}
{{- $least := int (dig "replicas" "min" 1 $pool) -}}
{{- $most := int (dig "replicas" "max" 1 $pool) -}}
{{- $min = add $min (div (add $least (sub $slots 1)) $slots) -}}
{{- $max = add $max (div (add $most (sub $slots 1)) $slots) -}}
{{- end -}}
{{- toJson (dict "min" $min "max" $max) -}}
{{- end -}}

{{/*
What one RayService runs: its pools, and the configuration they are built from. The canary's pools have the same names
and a revision of their own. (dict "root" . "config" $config "canary" false)
*/}}
{{- define "longreach.served" -}}
{{- $canary := .root.Values.canary -}}
{{- $isCanary := .canary -}}
{{- $models := list -}}
{{- range $model := .config.models -}}
{{- $model = omit $model "aliases" "output" -}}
{{- if $isCanary -}}{{- $model = mergeOverwrite (deepCopy $model) (default dict (index $canary.models $model.id)) -}}{{- end -}}
{{- $models = append $models $model -}}
{{- end -}}
{{- $pools := list -}}
{{- range $pool := .config.pools -}}
{{- if not $pool.endpoints -}}
{{- if not $isCanary -}}
{{- $pools = append $pools $pool -}}
{{- else if hasKey $canary.pools $pool.name -}}
{{- $count := int (dig "replicas" 1 (default dict (index $canary.pools $pool.name))) -}}
{{- $changed := dict "revision" "canary" "replicas" (dict "min" $count "max" $count) -}}
{{- $pools = append $pools (mergeOverwrite (deepCopy $pool) $changed) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "models" $models "pools" $pools) -}}
{{- end -}}

{{/* The arguments of one pool's application: no replica counts, which must not replace replicas. */}}
{{- define "longreach.poolArguments" -}}
{{- $model := dict -}}
{{- $id := .pool.model -}}
{{- range .models -}}{{- if eq .id $id -}}{{- $model = . -}}{{- end -}}{{- end -}}
{{- $config := dict "cluster" .config.cluster "redis" .config.redis "models" (list $model) "pools" (list (omit .pool "replicas" "autoscaling" "traffic")) -}}
{{- toJson (dict "pool" .pool.name "config" $config) -}}
{{- end -}}

{{/*
Serve's options of a pool whose replicas follow the load, as cluster/control/pools.py has them. Serve takes nothing of
the application's own once an option is given here. (dict "config" $config "pool" $pool "least" 0 "most" 2)
*/}}
{{- define "longreach.autoscalingConfig" -}}
min_replicas: {{ .least }}
max_replicas: {{ .most }}
upscale_delay_s: 0.0
downscale_delay_s: 0.0
downscale_to_zero_delay_s: 0.0
policy:
  policy_function: cluster.control.autoscaling:PoolPolicy
  policy_kwargs:
    pool: {{ .pool.name | quote }}
    cluster: {{ .config.cluster.name | quote }}
    target:
      min_replicas: {{ .least }}
      max_replicas: {{ .most }}
      {{- with .pool.autoscaling }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- $redis := .config.redis }}
    {{- $state := dict }}
    {{- range $name := list "url" "user" "password_file" "ca_file" }}
    {{- with get $redis (printf "state_%s" $name) }}{{- $_ := set $state $name . }}{{- end }}
    {{- end }}
    state:
      {{- toYaml $state | nindent 6 }}
{{- end -}}

{{- define "longreach.serveConfig" -}}
proxy_location: HeadOnly
http_options: {host: 0.0.0.0, port: 8000}
applications:
{{- $of := . }}
{{- range $pool := .served.pools }}
  - name: {{ printf "pool-%s" $pool.name | quote }}
    route_prefix: {{ printf "/%s" $pool.name | quote }}
    import_path: cluster.control.kuberay:pool
    args:
      {{- include "longreach.poolArguments" (dict "config" $of.config "models" $of.served.models "pool" $pool) | fromJson | toYaml | nindent 6 }}
    deployments:
      - name: replica
        {{- $least := int (dig "replicas" "min" 1 $pool) }}
        {{- $most := int (dig "replicas" "max" 1 $pool) }}
        {{- if gt $most $least }}
        num_replicas: auto
        autoscaling_config:
          {{- include "longreach.autoscalingConfig" (dict "config" $of.config "pool" $pool "least" $least "most" $most) | nindent 10 }}
        {{- else }}
        num_replicas: {{ $least }}
        {{- end }}
{{- end }}
{{- end -}}
