{{/* One RayService. (dict "root" . "config" $config "canary" false) */}}
{{- define "longreach.rayservice" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $served := include "longreach.served" . | fromJson -}}
{{- $name := include "longreach.fullname" $root -}}
{{- if .canary -}}{{- $name = printf "%s-canary" $name -}}{{- end -}}
{{- $longest := 0 -}}
{{- $scales := eq (include "longreach.scales" $root) "true" -}}
{{- range $pool := $served.pools -}}
{{- $longest = max $longest (ceil (dig "engine" "drain_s" 0 $pool) | int) -}}
{{- end -}}
{{- $spans := false -}}
{{- range $served.pools -}}{{- if gt (int (default 1 .hosts)) 1 -}}{{- $spans = true -}}{{- end -}}{{- end -}}
{{- $waits := dict "drain" $longest "spans" $spans -}}
{{- $serve := include "longreach.serveConfig" (dict "config" .config "served" $served) -}}
{{- $anyCuda := false -}}
{{- range $served.pools -}}{{- if eq .accelerator "cuda" -}}{{- $anyCuda = true -}}{{- end -}}{{- end -}}
apiVersion: ray.io/v1
kind: RayService
metadata:
  {{- /* Without it KubeRay gives up its finalizer after 300 s, drain or not, and leaves the old cluster's keys in Redis. */}}
  {{- $finalizer := dict "ray.io/gcs-ft-deletion-timeout" (add 300 (include "longreach.headGrace" $waits | int) | toString) }}
  {{- include "longreach.metadata" (dict "root" $root "component" "ray" "name" $name "annotations" (ternary $finalizer dict (include "longreach.redis.isUsed" (dict "root" $root "role" "gcs") | eq "true"))) | nindent 2 }}
spec:
  upgradeStrategy:
    type: {{ $values.upgrade.strategy }}
    {{- if eq $values.upgrade.strategy "NewClusterWithIncrementalUpgrade" }}
    clusterUpgradeOptions:
      {{- toYaml $values.upgrade.incremental | nindent 6 }}
    {{- end }}
  rayClusterDeletionDelaySeconds: {{ $values.upgrade.deletionDelaySeconds | int64 }}
  excludeHeadPodFromServeSvc: true
  serveConfigV2: |
    {{- $serve | nindent 4 }}
  rayClusterConfig:
    rayVersion: {{ $values.ray.version | quote }}
    {{- if eq $values.ray.auth.mode "token" }}
    authOptions:
      mode: token
      {{- with $values.ray.auth.existingSecret }}
      secretName: {{ . }}
      {{- end }}
    {{- end }}
    {{- if include "longreach.redis.isUsed" (dict "root" $root "role" "gcs") }}
    {{- $gcs := dict "root" $root "role" "gcs" }}
    gcsFaultToleranceOptions:
      redisAddress: {{ include "longreach.redis.url" $gcs }}
      {{- with $values.redis.gcs.external.user }}
      redisUsername: {value: {{ . }}}
      {{- end }}
      {{- if include "longreach.redis.hasLogin" $gcs }}
      redisPassword:
        valueFrom:
          secretKeyRef:
            name: {{ include "longreach.redis.secret" $gcs }}
            key: {{ include "longreach.redis.passwordKey" $gcs }}
      {{- end }}
    {{- end }}
    {{- if $scales }}
    enableInTreeAutoscaling: true
    autoscalerOptions:
      version: v2
      idleTimeoutSeconds: {{ $values.ray.autoscaler.idleTimeoutSeconds | int64 }}
      resources:
        {{- toYaml $values.ray.autoscaler.resources | nindent 8 }}
      {{- include "longreach.containerSecurity" $root | nindent 6 }}
    {{- end }}
    headGroupSpec:
      rayStartParams:
        dashboard-host: 0.0.0.0
        num-cpus: "0"
        object-store-memory: "209715200"
      template:
        {{- include "longreach.headPod" (dict "root" $root "served" $served "serve" $serve "drain" $longest "spans" $spans "cuda" $anyCuda "scales" $scales "canary" .canary) | nindent 8 }}
    workerGroupSpecs:
      {{- range $groupName := keys $values.workerGroups | sortAlpha }}
      {{- $pools := list }}
      {{- $drain := 0 }}
      {{- range $pool := $served.pools }}
      {{- if eq $pool.worker_group $groupName }}
      {{- $pools = append $pools $pool }}
      {{- $drain = max $drain (ceil (dig "engine" "drain_s" 0 $pool) | int) }}
      {{- end }}
      {{- end }}
      {{- if $pools }}
      {{- $group := include "longreach.group" (dict "root" $root "name" $groupName) | fromJson }}
      {{- $workers := include "longreach.workers" (dict "group" $group "pools" $pools) | fromJson }}
      {{- $ranks := 0 }}
      {{- range $pools }}{{- $ranks = max $ranks (int (default 1 .tensor_parallel)) }}{{- end }}
      {{- $cpus := mul $ranks (int $group.replicasPerWorker) }}
      {{- if gt (int $group.gpu.count) 0 }}{{- $cpus = add (int $group.gpu.count) 1 }}{{- end }}
      - groupName: {{ $groupName | quote }}
        # KubeRay takes counts from here once, when it makes a cluster. From then on workers come and go with the replicas
        # that Serve wants, which is why there is room above and none below.
        replicas: {{ $workers.min }}
        minReplicas: {{ ternary 0 $workers.min $scales }}
        maxReplicas: {{ ternary (default (max 8 (mul 2 (int $workers.max))) (int $group.maxWorkers)) $workers.max $scales }}
        numOfHosts: {{ $group.hosts }}
        rayStartParams:
          num-cpus: {{ $cpus | quote }}
          {{- if gt (int $group.gpu.count) 0 }}
          num-gpus: {{ int $group.gpu.count | quote }}
          {{- end }}
          object-store-memory: "209715200"
          resources: {{ printf "'{\"worker_group_%s\": 1}'" $groupName | quote }}
        template:
          {{- include "longreach.workerPod" (dict "root" $root "group" $group "groupName" $groupName "drain" $drain "canary" $.canary) | nindent 10 }}
      {{- end }}
      {{- end }}
{{- end -}}
