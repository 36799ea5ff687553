{{/* The three stores, each by its role: state, cache, gcs. Arguments: (dict "root" . "role" "state"). */}}
{{- define "longreach.redis.isOwn" -}}
{{- $store := index .root.Values.redis .role -}}
{{- if and $store.enabled (not $store.external.url) (ne .role "gcs") }}true{{ end -}}
{{- if and (eq .role "gcs") (include "longreach.serves" .root) .root.Values.ray.gcsFaultTolerance $store.enabled (not $store.external.url) }}true{{ end -}}
{{- end -}}

{{- define "longreach.redis.isUsed" -}}
{{- $store := index .root.Values.redis .role -}}
{{- if and (or (ne .role "gcs") .root.Values.ray.gcsFaultTolerance) (or $store.external.url (include "longreach.redis.isOwn" .)) }}true{{ end -}}
{{- end -}}

{{- define "longreach.redis.name" -}}
{{ include "longreach.fullname" .root }}-redis-{{ .role }}
{{- end -}}

{{- define "longreach.redis.hasLogin" -}}
{{- $store := index .root.Values.redis .role -}}
{{- if or (include "longreach.redis.isOwn" .) (and $store.external.url $store.external.existingSecret) }}true{{ end -}}
{{- end -}}

{{- define "longreach.redis.secret" -}}
{{- $store := index .root.Values.redis .role -}}
{{- if $store.external.url }}{{ $store.external.existingSecret }}{{ else }}{{ default (include "longreach.redis.name" .) .root.Values.redis.existingSecret }}{{ end -}}
{{- end -}}

{{- define "longreach.redis.passwordKey" -}}
{{- $store := index .root.Values.redis .role -}}
{{- if $store.external.url }}{{ $store.external.passwordKey }}{{ else }}{{ .role }}-password{{ end -}}
{{- end -}}

{{- define "longreach.redis.url" -}}
{{- $store := index .root.Values.redis .role -}}
{{- if $store.external.url }}{{ $store.external.url }}{{ else }}redis://{{ include "longreach.redis.name" . }}.{{ .root.Release.Namespace }}:6379{{ end -}}
{{- end -}}
