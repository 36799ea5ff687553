{{/*
Values that contradict each other, or that KubeRay would refuse, stop here with what to do; values.schema.json has
stopped misspelled keys and wrong types before.
*/}}
{{- define "longreach.validate" -}}
{{- $found := list -}}
{{- $values := .Values -}}
{{- $root := . -}}
{{- $source := default dict $values.config -}}

{{- if not $source.models -}}{{- fail "\n\nconfig.models: name at least one model; examples/ has whole files" -}}{{- end -}}
{{- if not $source.pools -}}{{- fail "\n\nconfig.pools: name at least one pool; examples/ has whole files" -}}{{- end -}}

{{- /* What the chart sets itself. */ -}}
{{- range $path := list "redis.state_url" "redis.cache_url" "redis.state_password_file" "redis.cache_password_file" "gateway.host" "gateway.port" "gateway.tls" "gateway.auth.keys_file" "gateway.admin.host" "gateway.admin.port" "gateway.grpc.port" "cluster.replica_host" "cluster.ray_port" "cluster.replica_port_min" -}}
{{- $at := $source -}}
{{- $given := true -}}
{{- range splitList "." $path -}}
{{- if and $given (kindIs "map" $at) (hasKey $at .) -}}{{- $at = index $at . -}}{{- else -}}{{- $given = false -}}{{- end -}}
{{- end -}}
{{- if $given -}}{{- $found = append $found (printf "config.%s: the chart sets it; leave it out (see redis, tls and apiKeys in the values)" $path) -}}{{- end -}}
{{- end -}}

{{- /* Pools and the nodes they run on. */ -}}
{{- range $name, $_ := $values.workerGroups -}}
{{- if not (regexMatch "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$" $name) -}}
{{- $found = append $found (printf "workerGroups.%s: a group's name has at most 40 characters of a-z, 0-9 and dashes" $name) -}}
{{- end -}}
{{- end -}}
{{- if not $found -}}
{{- $config := include "longreach.config" . | fromJson -}}
{{- $stream := include "longreach.streamSeconds" . | int -}}
{{- $tier := false -}}
{{- $seen := dict -}}
{{- $ranksOf := dict -}}
{{- $models := dict -}}
{{- range $config.models -}}{{- $_ := set $models .id . -}}{{- end -}}
{{- range $pool := $config.pools -}}
{{- if hasKey $seen $pool.name -}}{{- $found = append $found (printf "config.pools: the name %q is used twice" $pool.name) -}}{{- end -}}
{{- $_ := set $seen $pool.name true -}}
{{- if not $pool.endpoints -}}
{{- $group := include "longreach.group" (dict "root" $root "name" $pool.worker_group) | fromJson -}}
{{- $ranks := int (default 1 $pool.tensor_parallel) -}}
{{- $cards := mul (int $group.gpu.count) (int $group.hosts) -}}
{{- if and (gt (int $group.gpu.count) 0) (lt (include "longreach.slots" (dict "group" $group "pool" $pool) | int) 1) -}}
{{- $found = append $found (printf "pool %s: tensor_parallel %d needs %d GPUs in one worker, and worker group %s has %d (gpu.count x hosts)" $pool.name $ranks $ranks $pool.worker_group $cards) -}}
{{- end -}}
{{- if and (gt (int $group.hosts) 1) (ne $ranks (int $cards)) -}}
{{- $found = append $found (printf "pool %s: worker group %s spans %d hosts, so tensor_parallel must be all its GPUs: %d" $pool.name $pool.worker_group (int $group.hosts) (int $cards)) -}}
{{- end -}}
{{- if and (gt (int $group.hosts) 1) (eq $values.modelCache.type "emptyDir") (not (hasPrefix "/" (default "" (get (get $models $pool.model) "source")))) -}}
{{- $found = append $found (printf "pool %s: a replica over several hosts brings its model to one of them: modelCache.type must be pvc" $pool.name) -}}
{{- end -}}
{{- if gt (int $group.gpu.count) 0 -}}
{{- $other := get $ranksOf $pool.worker_group -}}
{{- if and $other (ne (int $other) $ranks) -}}
{{- $found = append $found (printf "worker group %s: its pools have tensor_parallel %d and %d; the smaller replicas could take a card of each worker and leave none whole for the larger: give each a group of its own" $pool.worker_group (int $other) $ranks) -}}
{{- end -}}
{{- $_ := set $ranksOf $pool.worker_group $ranks -}}
{{- end -}}
{{- if and (gt (int (dig "replicas" "max" 1 $pool)) (int (dig "replicas" "min" 1 $pool))) (not $values.ray.autoscaler.enabled) -}}
{{- $found = append $found (printf "pool %s: replicas.max is over min, and without ray.autoscaler.enabled nobody adds workers" $pool.name) -}}
{{- end -}}
{{- if and $values.canary.enabled $values.canary.engineTag $group.image (hasKey $values.canary.pools $pool.name) -}}
{{- $found = append $found (printf "canary.engineTag: workerGroups.%s.image would win over it" $pool.worker_group) -}}
{{- end -}}
{{- if and (gt (int $group.hosts) 1) (eq (int $group.gpu.count) 0) -}}
{{- $found = append $found (printf "worker group %s: only GPU workers can span hosts" $pool.worker_group) -}}
{{- end -}}
{{- if gt (int (dig "replicas" "min" 1 $pool)) (int (dig "replicas" "max" 1 $pool)) -}}
{{- $found = append $found (printf "pool %s: replicas.min is over replicas.max" $pool.name) -}}
{{- end -}}
{{- if dig "engine" "redis_tier" "enabled" false $pool -}}{{- $tier = true -}}{{- end -}}
{{- if and (lt (ceil $pool.engine.drain_s | int) $stream) (not $values.upgrade.mayCutStreams) -}}
{{- $found = append $found (printf "pool %s: engine.drain_s %v is less than a stream may take (gateway.limits.request_s %d): an upgrade would cut streams; leave it out, or set upgrade.mayCutStreams" $pool.name $pool.engine.drain_s $stream) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (lt (ceil $config.gateway.limits.drain_s | int) $stream) (not $values.upgrade.mayCutStreams) -}}
{{- $found = append $found (printf "config.gateway.limits.drain_s %v is less than a stream may take (request_s %d): an upgrade would cut streams; leave it out, or set upgrade.mayCutStreams" $config.gateway.limits.drain_s $stream) -}}
{{- end -}}

{{- /* Stores. */ -}}
{{- $served := (include "longreach.served" (dict "root" . "config" $config "canary" false) | fromJson).pools -}}
{{- if and $served (not (include "longreach.redis.isUsed" (dict "root" . "role" "state"))) -}}
{{- $found = append $found "redis.state: replicas and gateways meet there: enable it, or give redis.state.external.url" -}}
{{- end -}}
{{- if and $tier (not (include "longreach.redis.isUsed" (dict "root" . "role" "cache"))) -}}
{{- $found = append $found "redis.cache: a pool has engine.redis_tier.enabled: enable redis.cache, or give redis.cache.external.url" -}}
{{- end -}}
{{- $urls := dict -}}
{{- range $role := list "state" "cache" "gcs" -}}
{{- $external := (index $values.redis $role).external -}}
{{- if and $external.user (not $external.existingSecret) -}}
{{- $found = append $found (printf "redis.%s.external: user without existingSecret: the password is in a Secret" $role) -}}
{{- end -}}
{{- if contains "@" $external.url -}}
{{- $found = append $found (printf "redis.%s.external.url: no user and password in the address: use user and existingSecret" $role) -}}
{{- end -}}
{{- if $external.url -}}
{{- if hasKey $urls $external.url -}}
{{- $found = append $found (printf "redis.%s.external.url is redis.%s's too: KV blocks, leases and Ray's tables each need a server of their own, since one evicts and the others must not" $role (index $urls $external.url)) -}}
{{- end -}}
{{- $_ := set $urls $external.url $role -}}
{{- end -}}
{{- end -}}
{{- if and $served $values.ray.gcsFaultTolerance (not (include "longreach.redis.isUsed" (dict "root" . "role" "gcs"))) -}}
{{- $found = append $found "ray.gcsFaultTolerance needs redis.gcs, its own or external; or switch it off" -}}
{{- end -}}
{{- range $env := $values.ray.extraEnv -}}
{{- if has $env.name (list "REDIS_PASSWORD" "REDIS_USERNAME" "RAY_REDIS_ADDRESS") -}}
{{- $found = append $found (printf "ray.extraEnv: KubeRay refuses %s beside gcsFaultToleranceOptions: use redis.gcs" $env.name) -}}
{{- end -}}
{{- if eq $env.name "RAY_enable_autoscaler_v2" -}}
{{- $found = append $found "ray.extraEnv: KubeRay refuses RAY_enable_autoscaler_v2 beside autoscalerOptions.version, which the chart sets" -}}
{{- end -}}
{{- end -}}
{{- $gcsUrl := $values.redis.gcs.external.url -}}
{{- if and $values.ray.gcsFaultTolerance $gcsUrl (not (regexMatch ":[0-9]+$" (urlParse $gcsUrl).host)) -}}
{{- $found = append $found "redis.gcs.external.url: Ray wants the port in the address" -}}
{{- end -}}

{{- /* Gateways. */ -}}
{{- $gateway := $values.gateway -}}
{{- $least := ternary $gateway.autoscaling.minReplicas $gateway.replicas $gateway.autoscaling.enabled | int -}}
{{- if and $gateway.autoscaling.enabled (gt $least (int $gateway.autoscaling.maxReplicas)) -}}
{{- $found = append $found "gateway.autoscaling: minReplicas is over maxReplicas" -}}
{{- end -}}
{{- if and $gateway.podDisruptionBudget.enabled (lt (int $gateway.podDisruptionBudget.maxUnavailable) 1) -}}
{{- $found = append $found "gateway.podDisruptionBudget.maxUnavailable must be at least 1: with 0 no node can ever be drained" -}}
{{- end -}}
{{- if and $gateway.podDisruptionBudget.enabled (gt $least 1) (ge (int $gateway.podDisruptionBudget.maxUnavailable) $least) -}}
{{- $found = append $found (printf "gateway.podDisruptionBudget.maxUnavailable %d lets all of the %d gateways go at once" (int $gateway.podDisruptionBudget.maxUnavailable) $least) -}}
{{- end -}}
{{- if and $gateway.ingress.enabled (not $gateway.ingress.hosts) -}}{{- $found = append $found "gateway.ingress.hosts: an Ingress needs a host" -}}{{- end -}}
{{- if and $gateway.ingress.grpc.enabled (not $gateway.ingress.grpc.hosts) -}}{{- $found = append $found "gateway.ingress.grpc.hosts: an Ingress needs a host" -}}{{- end -}}
{{- if and $gateway.ingress.grpc.enabled (not (include "longreach.servesGrpc" .)) -}}{{- $found = append $found "gateway.ingress.grpc.enabled, and config.gateway.grpc.enabled is false" -}}{{- end -}}
{{- if and $gateway.gatewayApi.enabled (not $gateway.gatewayApi.parentRefs) -}}{{- $found = append $found "gateway.gatewayApi.parentRefs: name the Gateway that the routes belong to" -}}{{- end -}}
{{- if and $values.tls.enabled (not $values.tls.existingSecret) (not $values.tls.certManager.enabled) -}}
{{- $found = append $found "tls.enabled: name a Secret in tls.existingSecret, or enable tls.certManager" -}}
{{- end -}}
{{- if and $values.tls.certManager.enabled (not $values.tls.certManager.issuerRef.name) -}}{{- $found = append $found "tls.certManager.issuerRef.name: who issues the certificate" -}}{{- end -}}
{{- if and $values.tls.certManager.enabled $values.tls.existingSecret -}}{{- $found = append $found "tls: existingSecret and certManager both say where the certificate comes from: choose one" -}}{{- end -}}
{{- if and (dig "gateway" "auth" "certificate_tenants" false $source) (not (and $values.tls.enabled $values.tls.clientCa)) -}}
{{- $found = append $found "config.gateway.auth.certificate_tenants needs tls.enabled and tls.clientCa" -}}
{{- end -}}

{{- /* Models. */ -}}
{{- if not (has $values.modelCache.type (list "pvc" "emptyDir")) -}}{{- $found = append $found "modelCache.type: pvc or emptyDir" -}}{{- end -}}
{{- if and $served (eq $values.modelCache.type "pvc") (not $values.modelCache.existingClaim) (eq $values.modelCache.accessMode "ReadWriteOnce") (gt (include "longreach.maxWorkers" . | int) 1) -}}
{{- $found = append $found (printf "modelCache.accessMode ReadWriteOnce serves one node, and there may be %s workers at once (an upgrade has two clusters, unless upgrade.strategy is None): use ReadWriteMany, or modelCache.type emptyDir" (include "longreach.maxWorkers" .)) -}}
{{- end -}}

{{- /* Upgrades. */ -}}
{{- $upgrade := $values.upgrade -}}
{{- if and (eq $upgrade.strategy "NewClusterWithIncrementalUpgrade") (not $upgrade.incremental.gatewayClassName) -}}
{{- $found = append $found "upgrade.incremental.gatewayClassName: KubeRay makes a Gateway of this class for an incremental upgrade" -}}
{{- end -}}
{{- $incremental := $upgrade.incremental -}}
{{- if and (eq $upgrade.strategy "NewClusterWithIncrementalUpgrade") (gt (int $incremental.stepSizePercent) (int $incremental.maxSurgePercent)) -}}
{{- $found = append $found "upgrade.incremental: stepSizePercent is over maxSurgePercent, which KubeRay refuses" -}}
{{- end -}}
{{- if and (eq $upgrade.strategy "NewClusterWithIncrementalUpgrade") (not $values.ray.autoscaler.enabled) -}}
{{- $found = append $found "upgrade.strategy NewClusterWithIncrementalUpgrade needs ray.autoscaler.enabled: KubeRay refuses it otherwise" -}}
{{- end -}}
{{- if and (ne $values.ray.auth.mode "token") $values.ray.auth.existingSecret -}}{{- $found = append $found "ray.auth.existingSecret is for ray.auth.mode token" -}}{{- end -}}
{{- $canary := $values.canary -}}
{{- if $canary.enabled -}}
{{- if not $canary.pools -}}{{- $found = append $found "canary.pools: name the pools that get a canary" -}}{{- end -}}
{{- range $name, $_ := $canary.pools -}}
{{- if not (hasKey $seen $name) -}}{{- $found = append $found (printf "canary.pools.%s: there is no such pool" $name) -}}{{- end -}}
{{- end -}}
{{- $ids := dict -}}
{{- range $config.models -}}{{- $_ := set $ids .id true -}}{{- end -}}
{{- range $name, $_ := $canary.models -}}
{{- if not (hasKey $ids $name) -}}{{- $found = append $found (printf "canary.models.%s: there is no such model" $name) -}}{{- end -}}
{{- end -}}
{{- if and (not $canary.models) (not $canary.engineTag) -}}{{- $found = append $found "canary: give canary.models another source or revision, or canary.engineTag another image" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if $found -}}
{{- fail (printf "\n\n%s" (join "\n" $found)) -}}
{{- end -}}
{{- end -}}
