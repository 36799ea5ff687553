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

{{/* The most workers there may be: one can hold a ReadWriteOnce claim, more need ReadWriteMany. */}}
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
{{- $most -}}
{{- end -}}

{{- define "longreach.modelAccessMode" -}}
{{- default (ternary "ReadWriteMany" "ReadWriteOnce" (gt (include "longreach.maxWorkers" . | int) 1)) .Values.modelCache.accessMode -}}
{{- end -}}
