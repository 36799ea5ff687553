{{/* Names and labels. 40 characters at most, so that `-canary` still fits the 47 that KubeRay allows a RayService. */}}
{{- define "longreach.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- end -}}
{{- if gt (len $name) 40 -}}
{{- /* Two long names may begin alike: the hash keeps them apart. */ -}}
{{- $name = printf "%s-%s" (trunc 33 $name | trimSuffix "-") (sha256sum $name | trunc 6) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) -}}
{{- fail (printf "\n\nThe release's name gives %q, and KubeRay wants a name that begins with a letter and has only a-z, 0-9 and dashes: set fullnameOverride." $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "longreach.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: longreach
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
What selectors use; never anything that a new version changes. Ray's pods leave the name to KubeRay, whose own Services
select by it. (dict "root" . "component" "gateway")
*/}}
{{- define "longreach.selectorLabels" -}}
{{- if not (has .component (list "ray-head" "ray-worker")) }}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
{{- end }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "longreach.labels" -}}
{{ include "longreach.selectorLabels" . }}
{{ include "longreach.commonLabels" .root }}
{{- end -}}

{{/* metadata of an object: (dict "root" . "component" "gateway" "name" "x" "annotations" dict "labels" dict) */}}
{{- define "longreach.metadata" -}}
name: {{ .name }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "longreach.labels" . | nindent 2 }}
  {{- if has .component (list "ray-head" "ray-worker") }}
  app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
  {{- end }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* (dict "root" . "image" .Values.image.gateway "tag" "default tag") */}}
{{- define "longreach.image" -}}
{{- $tag := default .tag .image.tag -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository $tag -}}
{{- end -}}
{{- end -}}

{{- define "longreach.gatewayImage" -}}
{{- include "longreach.image" (dict "image" .Values.image.gateway "tag" .Chart.AppVersion) -}}
{{- end -}}

{{/* A canary may bring an image of its own. (dict "root" . "cuda" true "canary" false) */}}
{{- define "longreach.engineImage" -}}
{{- $image := .root.Values.image.engine -}}
{{- if and .canary .root.Values.canary.engineTag -}}
{{- $image = dict "repository" $image.repository "tag" .root.Values.canary.engineTag "digest" "" -}}
{{- end -}}
{{- $tag := printf "%s-%s" .root.Chart.AppVersion (ternary "cuda" "cpu" .cuda) -}}
{{- include "longreach.image" (dict "image" $image "tag" $tag) -}}
{{- end -}}

{{- define "longreach.serviceAccountName" -}}
{{- $account := .Values.serviceAccount -}}
{{- if $account.name }}{{ $account.name }}{{ else if $account.create }}{{ include "longreach.fullname" . }}{{ else }}default{{ end -}}
{{- end -}}

{{/* The head's, for its autoscaler. */}}
{{- define "longreach.headAccountName" -}}
{{- default (printf "%s-head" (include "longreach.fullname" .)) .Values.serviceAccount.headName -}}
{{- end -}}

{{- define "longreach.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}
