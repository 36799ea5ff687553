{{- define "longreach.modelClaim" -}}
{{- default (printf "%s-models" (include "longreach.fullname" .)) .Values.modelCache.existingClaim -}}
{{- end -}}

{{- define "longreach.modelVolume" -}}
- name: models
{{- if eq .Values.modelCache.type "pvc" }}
  persistentVolumeClaim: {claimName: {{ include "longreach.modelClaim" . }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .Values.modelCache.size }}}
{{- end }}
{{- end -}}

{{/* The most workers that may want the claim at once: one can hold ReadWriteOnce, and an upgrade has two clusters. */}}
{{- define "longreach.maxWorkers" -}}
{{- $root := . -}}
{{- $config := include "longreach.config" . | fromJson -}}
{{- $most := 0 -}}
{{- range $canary := list false true -}}
{{- if or (not $canary) $root.Values.canary.enabled -}}
{{- $served := include "longreach.served" (dict "root" $root "config" $config "canary" $canary) | fromJson -}}
{{- range $pool := $served.pools -}}
{{- $group := include "longreach.group" (dict "root" $root "name" $pool.worker_group) | fromJson -}}
{{- $workers := include "longreach.workers" (dict "group" $group "pools" (list $pool)) | fromJson -}}
{{- $most = add $most (mul (int $workers.max) (int $group.hosts)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- mul $most (ternary 1 2 (eq $root.Values.upgrade.strategy "None")) -}}
{{- end -}}

{{/* A claim for one node is filled by the worker there: a Job would bind it to a node of its own. */}}
{{- define "longreach.prefetches" -}}
{{- $cache := .Values.modelCache -}}
{{- if and (eq $cache.type "pvc") $cache.prefetch.enabled (or $cache.existingClaim (eq $cache.accessMode "ReadWriteMany")) }}true{{ end -}}
{{- end -}}

{{/* The prefetch Job's pods. Everything in them is in the Job's name, since a Job cannot change. */}}
{{- define "longreach.prefetchPod" -}}
{{- $cache := .Values.modelCache -}}
metadata:
  labels:
    {{- include "longreach.labels" (dict "root" . "component" "model-prefetch") | nindent 4 }}
spec:
  {{- include "longreach.podSecurity" . | nindent 2 }}
  {{- include "longreach.pullSecrets" . | nindent 2 }}
  serviceAccountName: {{ include "longreach.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: OnFailure
  {{- include "longreach.scheduling" $cache.prefetch | nindent 2 }}
  containers:
    - name: pull
      image: {{ include "longreach.gatewayImage" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- include "longreach.containerSecurity" . | nindent 6 }}
      command: [longreach, models, pull, --config, /etc/longreach/config/config.yaml]
      env:
        {{- $own := list (dict "name" "LONGREACH_CACHE" "value" "/models") (dict "name" "HOME" "value" "/tmp") }}
        {{- include "longreach.unique" (dict "key" "name" "lists" (list (toYaml $own) (include "longreach.hubEnv" .))) | nindent 8 }}
      resources:
        {{- toYaml $cache.prefetch.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: models, mountPath: /models{{ with $cache.subPath }}, subPath: {{ . }}{{ end }}}
        - {name: config, mountPath: /etc/longreach/config, readOnly: true}
        {{- with include "longreach.hubMount" . }}
        {{- trim . | nindent 8 }}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- include "longreach.modelVolume" . | nindent 4 }}
    - name: config
      configMap: {name: {{ include "longreach.fullname" . }}-config}
    {{- with include "longreach.hubVolume" . }}
    {{- trim . | nindent 4 }}
    {{- end }}
{{- end -}}
